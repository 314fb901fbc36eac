"""The explorer as a notebook widget."""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from structmat.explorer.html import page_data
from structmat.explorer.queries import asked, question_of
from structmat.explorer.service import Service
from structmat.networks.network import Network

_PAGE = files("structmat.explorer") / "page"
_SERVICE = threading.Lock()
_services: list[Service] = []


class Explorer(anywidget.AnyWidget):
    """The explorer in a notebook.

    Each question of the page is answered in a thread, so that cells can run meanwhile, and computed
    in separate processes, which all explorers of a kernel share.

    Attributes
    ----------
    network : Network
        The network on the page. Setting it shows another one; `observe(handler, "network")` calls a
        function whenever it changes.
    question : dict
        The question that describes the network: its width, and its spec, stages or JSON.

    Raises
    ------
    StructmatError
        For a question that the explorer refuses, or a network that is too large for it.

    Examples
    --------
    >>> explorer = Explorer()
    >>> explorer.network
    Network(width=16, depth=3, parameters=72)
    >>> explorer.network = Network.of(3, [[[0, 1]], [[1, 2]]])
    >>> explorer.question
    {'width': 3, 'stages': [[[0, 1]], [[1, 2]]]}
    """

    _esm = (_PAGE / "explorer.js").read_text("utf-8")
    _css = (_PAGE / "explorer.css").read_text("utf-8")
    data = traitlets.Dict().tag(sync=True)
    question = traitlets.Dict().tag(sync=True)
    network = traitlets.Instance(Network)

    def __init__(self, question: dict[str, Any] | None = None) -> None:
        data = page_data(question)
        first = data["first"]
        super().__init__(data=data, question=first, network=asked(first).network)
        self.on_msg(self._receive)

    @traitlets.validate("network")
    def _checked(self, proposal: Any) -> Network:
        net: Network = proposal["value"]
        if net != asked(self.question).network:
            self.question = question_of(net)
        return net

    @traitlets.observe("question")
    def _shown(self, change: Any) -> None:
        if self.trait_has_value("network"):  # not while the widget is being constructed
            net = asked(change["new"]).network
            if net != self.network:
                self.network = net

    def _receive(self, _: Any, content: Any, __: Any) -> None:
        """Answer a message from the page."""
        threading.Thread(target=self.reply, args=[content], daemon=True).start()

    def reply(self, message: Any) -> None:
        """Send the answer to a message ``{"id", "name", "question"}`` from the page.

        The answer is ``{"id", "answer"}`` or, if the question is refused, ``{"id", "error",
        "widths"}``.
        """
        given = message if isinstance(message, dict) else {}
        question = given.get("question")
        if isinstance(question, dict):
            question = question | {"page": self.model_id}
        found = _service().answer(str(given.get("name")), question)
        refused = isinstance(found, dict) and "error" in found
        self.send({"id": given.get("id")} | (found if refused else {"answer": found}))


def _service() -> Service:
    """Return the service of this kernel, which is started by the first question."""
    with _SERVICE:
        if not _services:
            _services.append(Service())
        return _services[0]
