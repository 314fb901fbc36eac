"""The explorer: a web page for choosing, drawing and examining networks; it does not import torch.

`queries` parses the questions of the page, `answers` computes the answers, `python_code` writes
the code to copy, `dimension_process` computes the dimension in a separate process, `html` assembles
the page, `server` serves it to this machine, and `saved_networks` precomputes the answers of a
saved page. The page itself is plain HTML, CSS and JavaScript in `page/`.
"""
