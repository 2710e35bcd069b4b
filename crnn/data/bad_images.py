"""What a loader does about an image that cannot be decoded or is too large: transform_param.bad_image.

error        the training ends, naming the image.
skip         its row is left out: the batch is smaller.
substitute   the next good record or line, in the order of the source, takes its row, with its label.

The positions of all other records stay as they are, so resumed and split runs read what they would have. A
file that is missing or cannot be read is an error whatever is asked for: a wrong root_folder is no bad image.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from crnn.data.datum import BadImage

POLICIES = ("error", "skip", "substitute")
IN_A_ROW = 100  # bad ones: more, and the source is wrong
SHOWN = 20  # images told one by one

T = TypeVar("T")


def policy_of(param) -> str:
    """bad_image of a TransformationParameter. Raises ValueError for an unknown one."""
    if param.bad_image not in POLICIES:
        raise ValueError(f"bad_image must be one of {', '.join(POLICIES)}, got {param.bad_image!r}")
    return param.bad_image


class Row(NamedTuple):
    """What became of a row of a batch: the record, None if it was skipped; what was wrong with it, or ""."""

    record: object | None
    problem: str = ""


def good(
    read: Callable[[int], T], number: int, count: Callable[[], int], policy: str, tries: int = IN_A_ROW
) -> Row:
    """read(number), or what the policy gives in its place.

    count(): how many records there are.    tries: how many in a row to look at.
    Raises BadImage by policy "error", with the cure; ValueError where too many in a row are bad.
    """
    try:
        return Row(read(number))
    except BadImage as error:
        if policy == "error":
            raise BadImage(f'{error}, or set transform_param {{ bad_image: "substitute" }}') from error
        problem = str(error)
    if policy == "skip":
        return Row(None, problem)
    for further in range(number + 1, number + tries):
        try:
            return Row(read(further % count()), problem)
        except BadImage:
            continue  # told when its own turn comes
    raise ValueError(f"{problem}; so are the {tries - 1} after it")


def some_left(rows: list[Row]) -> list[int]:
    """The numbers of the rows that were not skipped. Raises ValueError if all of a batch were."""
    left = [i for i, row in enumerate(rows) if row.record is not None]
    if rows and not left:
        raise ValueError(f"all {len(rows)} images of a batch are bad; the last: {rows[-1].problem}")
    return left


class BadImages:
    """Those that a loader's batches had: `counts`, how often each was met, by what was wrong with it."""

    def __init__(self, policy: str):
        self.policy, self.counts = policy, Counter()
        self._news: list[str] = []

    def met(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self.counts and len(self.counts) < SHOWN:
                self._news.append(f"{self._done}: {problem}")
            self.counts[problem] += 1

    def news(self) -> list[str]:
        """A line for each image met for the first time since the last call."""
        news, self._news = self._news, []
        return news

    def summary(self) -> str:
        """One line for all of them."""
        times = sum(self.counts.values())
        return f"{len(self.counts):,} bad images were {self._done}, {times:,} times in all"

    @property
    def _done(self) -> str:
        return "skipped" if self.policy == "skip" else "substituted by the next good one"
