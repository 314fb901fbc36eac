"""The explorer: a web page for choosing, drawing and examining networks; it does not import torch.

`queries` parses the questions of the page, and `answers` answers them: with `drawings` and
`numbers` of a network, or with the rows of a `survey`. `families_offered` describes the families,
and `python_code` writes the code to copy. A `service` answers in separate processes (`worker`). It
is used by the `server` and by the `widget` of notebooks, which `exploring` opens. `html` assembles
the page, and `saved_networks` precomputes the answers of a saved one. The page itself is written in
TypeScript in `web/`, and built into `page/`.
"""
