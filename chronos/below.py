"""What a run that is over means for the jobs below its own. Pure: what is known is kept, what is decided is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from chronos import joins
from chronos.book import Book
from chronos.edges import EdgeBook
from chronos.entry import Entry
from chronos.joins import Decision, Outcome
from chronos.run import OUTCOMES, Run


class Told(Struct, frozen=True):
    """What was decided about one child. identity: of the run it takes part in, "" where its parents have none in common. parents: what
    is known of them."""

    child: Entry
    identity: str
    decision: Decision
    parents: Mapping[str, Outcome]

    @property
    def shared(self) -> bool:
        return bool(self.identity)


def tell(book: Book, edges: EdgeBook, entry: Entry, run: Run) -> Iterator[Told]:
    """Tell the children of a job what a run of it came to, one after another: act on one before the next is asked for."""
    outcome = OUTCOMES[run.state]
    if outcome is Outcome.FAILURE and entry.job.soft_error:
        outcome = Outcome.SUCCESS
    graph = book.graph
    for name in graph.children(entry.name):
        child = book.entries[name]
        identity = run.identity if joins.shares_run(graph, name) else ""
        known = edges.of(name, identity)
        parents = joins.taking_part(graph, name, identity) if identity else graph.parents(name)
        decide = joins.report if identity else joins.count
        decision = decide(child.job.more.join, parents, known, entry.name, outcome)
        edges.keep(name, identity, decision.edges)
        yield Told(child, identity, decision, {**known.outcomes, entry.name: outcome})
