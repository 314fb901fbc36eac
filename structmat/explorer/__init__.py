"""The explorer: a page on which networks are picked or drawn, and looked at; without torch.

`asking` reads what the page asks for, `answering` says what the library knows of it, `measuring`
finds the dimension in a process of its own, `writing` puts the page together, `serving` serves it
on this machine, and `choosing` precomputes the answers of a page that is saved. The page itself
is plain HTML, CSS and JavaScript in `page/`.
"""
