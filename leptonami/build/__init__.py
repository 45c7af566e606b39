"""From a plan to an AMI, on EC2 and SSM."""
