"""Events counted by the source line of the operation that they arise in."""

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.arithmetic.events import Events

_PLACE = re.compile(r"(?P<path>.*?):(?P<number>\d+)(?::\d+)? \((?P<function>.*)\)")


class Place(NamedTuple):
    """A line of a program, or what stands in its stead: the first and the last roundings belong to no line."""

    order: int
    path: str
    number: int
    function: str

    @classmethod
    def of(cls, source: str) -> "Place":
        """The line of an `Operation.source`, without its column."""
        found = _PLACE.fullmatch(source)
        if found:
            return cls(1, found["path"], int(found["number"]), found["function"])
        return cls({"arguments": 0, "results": 3}.get(source, 2), source, 0, "")


class Lines(Protocol):
    """Where the events of each source line are counted."""

    def none_yet(self) -> Any:
        """What is threaded through the program to count in, at zero."""
        ...

    def at(self, source: str) -> Any:
        """The `Machine.line` of one line."""
        ...


@dataclass(frozen=True)
class Sighting:
    """A line that is noted down when it rounds, and not counted."""

    source: str
    seen: set[Place] = field(compare=False)

    def add(self, counted: Any, new: Events) -> Any:
        """Note the line."""
        self.seen.add(Place.of(self.source))
        return counted


@dataclass(frozen=True)
class Survey:
    """A first walk over a program, which finds the lines that round: counters must be there before the first loop."""

    seen: set[Place] = field(default_factory=set)

    def none_yet(self) -> jax.Array:
        """Something for rules to see that events are asked for."""
        return jnp.zeros((), jnp.int64)

    def at(self, source: str) -> Sighting:
        """The line, to be noted."""
        return Sighting(source, self.seen)


@dataclass(frozen=True)
class Row:
    """One line's counters, among those of all lines."""

    index: int
    of: int

    def add(self, counted: jax.Array, new: Events) -> jax.Array:
        """Add new events to this line's."""
        return counted + lax.pad(
            jnp.stack(new)[None], jnp.int64(0), [(self.index, self.of - 1 - self.index, 0), (0, 0, 0)]
        )


@dataclass(frozen=True)
class Counters:
    """The counters of all lines of a program: an array [lines, 4]."""

    places: tuple[Place, ...]

    @classmethod
    def of(cls, places: Iterable[Place]) -> "Counters":
        """Counters for these lines, by file and line."""
        return cls(tuple(sorted(places)))

    def none_yet(self) -> jax.Array:
        """All counters at zero."""
        return jnp.zeros((len(self.places), len(Events._fields)), jnp.int64)

    def at(self, source: str) -> Row | None:
        """The counters of one line; None if it never rounds."""
        place = Place.of(source)
        return Row(self.places.index(place), len(self.places)) if place in self.places else None

    def by_line(self, counted: jax.Array) -> OrderedDict[str, Events]:
        """The counts, under names of lines such as `model.py:12 (loss)`; an ordered one, as JAX would sort a `dict`."""
        paths = Counter(PurePath(path).name for path in {place.path for place in self.places})
        names = []
        for _, path, number, function in self.places:
            short = PurePath(path).name if paths[PurePath(path).name] == 1 else path
            names.append(f"{short}:{number} ({function})" if number else path)
        return OrderedDict((name, Events(*row)) for name, row in zip(names, counted, strict=True))
