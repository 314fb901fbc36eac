"""The explorer: a web page for choosing, drawing and examining networks; it does not import torch.

`queries` parses the questions that the page sends, and `answers` answers them from the `drawings`
and `numbers` of a network; a `survey` compares all families at a width. `families_offered`
describes the families for the form, and `python_code` writes the code to copy. A `service` computes
answers in separate processes (`worker`), for the `server` and for the notebook `widget`, which
`exploring` opens. `html` assembles the page, and `saved_networks` precomputes the answers for a
saved page. The page itself is written in TypeScript in `web/`, and built into `page/`.
"""
