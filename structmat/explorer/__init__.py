"""The explorer: a web page for choosing, drawing and examining networks; it does not import torch.

`asking` parses the questions of the page, `answering` computes the answers, `measuring` computes
the dimension in a separate process, `writing` assembles the page, `serving` serves it to this
machine, and `choosing` precomputes the answers of a saved page. The page itself is plain HTML, CSS
and JavaScript in `page/`.
"""
