"""The pipeline: notebooks in their order, into one run folder.

`definition` reads and checks the file (`notebooks/pipeline.yaml`), `planning` decides what will run and in which order
(pure), `execution` runs the notebooks as processes side by side, `worker` is such a process, `record` is what is kept
of it (`runs/<id>/pipeline.json`), `board` shows it live and `index` is its page (`runs/<id>/index.html`).
"""
