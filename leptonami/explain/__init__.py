"""What `leptonami explain` puts together: evidence in, a story and tables out."""
