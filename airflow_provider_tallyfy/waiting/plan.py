"""
What to ask of Tallyfy next, so that every wait is served with the fewest requests. It does no I/O and has no clock.

The rules held here:

- **Few runs** are read each by itself. **Many** are found in a list, 100 a page, while that takes fewer requests than
  reading by itself what is still wanted. **Very many** are not read at all while the activity feed says nothing of
  them: a look is then one request, and one more for each run that the feed tells of.
- Whatever the feed says, a run is read at least every :data:`LONGEST_UNREAD` seconds (or at its wait's own pace, where
  that is slower). That is the bound on what a feed can hide.
- A list can only show that nothing is new. What looks like news is read by itself before a wait decides on it.
- A wait is told only what was asked for after its first look was due.
- An outage is everybody's: all waits are told of it, and all pause; so it is with a 429. Where the list or the feed
  fails, a run is read to find out whether everything does.
- An endpoint that disappoints is given up for :data:`GIVEN_UP_FOR` seconds, with one line in the log.

All times are seconds on one monotonic clock, which callers pass in.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import count, islice
from math import inf
from typing import Any

from airflow_provider_tallyfy.protocol.answers import Activity, Page
from airflow_provider_tallyfy.waiting.feed import REMEMBERED, Feed
from airflow_provider_tallyfy.waiting.looks import Blank, Look, Sight
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.questions import AskFeed, AskList, AskRun, Listing, Question
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger
from airflow_provider_tallyfy.waiting.watched import (
    CLOSE_TOGETHER,
    OPEN_STATUSES,
    SHORTEST_PAUSE,
    Course,
    Watch,
    WatchedRun,
    next_id_of,
    text_or_none,
)

FEW = 3
"""So many requests a look are not worth saving."""
LONGEST_UNREAD = 300.0
"""Seconds after which a run is read whether or not the feed tells of it."""
GIVEN_UP_FOR = 3600.0
"""Seconds for which an endpoint that disappointed is left alone, and for which the length of a list is believed."""
CLOCKS_APART = 60.0
"""Seconds by which a worker's clock may differ from the triggerer's before it costs a request."""
CLOSE_AT_THE_START = 1.0
"""Seconds within which another wait has to come for the very first look to wait for it."""
LONGEST_START = 5.0
"""Seconds by which the very first look may be put off in that way."""
_UNKNOWN_PAGES = 5  # what a list is taken for until its first page tells
_IN_A_ROW = 3

logger = BackgroundLogger(__name__)


class Plan:
    """
    Decides what to ask next for all the waits of one connection, and whom to tell what came back.

    Whoever does the asking calls :meth:`next_question`, asks it, hands the answer to :meth:`answered`, and does that
    again; one question at a time.
    """

    def __init__(self) -> None:
        self._runs: dict[str, WatchedRun] = {}
        self._agenda: list[tuple[float, int, WatchedRun]] = []
        self._numbers = count()
        self._unread: dict[str, WatchedRun] = {}
        self._turns: dict[str, int] = {}
        self._course: Course | None = None
        self._sizes: dict[Listing, int] = {}
        self._sizes_since = -inf
        self._feed = Feed()
        self._feed_due_at = inf
        self._feed_asked_at = -inf
        self._paused_until = -inf
        self._outages = 0
        self._failing: set[str] = set()  # runs, since Tallyfy was last reached
        self._suspect: str | None = None  # the list or the feed, until it is known whether only it fails
        self._suspicion = ""
        self._troubles: Counter[str] = Counter()
        self._given_up: dict[str, float] = {}
        self._contradictions = 0
        self._has_begun = False
        self._first_begins_at = inf
        self._last_of_the_first = -inf

    def __bool__(self) -> bool:
        return bool(self._runs)

    def watches(self) -> Iterator[Watch]:
        """Give everybody who waits."""
        for run in self._runs.values():
            yield from run.watches

    # Who waits.

    def join(self, watch: Watch, looked_at: float = -inf) -> None:
        """
        Take up a wait.

        :param looked_at: when a worker looked at the run for it, so that only what came after is new to it.
        """
        run = self._runs.setdefault(watch.run_id, WatchedRun(watch.run_id))
        since = looked_at - CLOCKS_APART
        if self._feed.covers(since) and not self._feed.told_of(watch.run_id, since):
            watch.read_at = watch.read_with = looked_at
        run.watches.append(watch)
        self._schedule_for(run, watch)
        if self._first_begins_at == inf or watch.begins_at <= self._last_of_the_first + CLOSE_AT_THE_START:
            self._first_begins_at = min(self._first_begins_at, watch.begins_at)
            self._last_of_the_first = max(self._last_of_the_first, watch.begins_at)
        # Many waits come at once, when a triggerer starts; the feed is best followed before they are read. One that is
        # followed may have to be looked at sooner, at the pace of this wait.
        self._feed_due_at = min(self._feed_due_at, max(watch.begins_at, self._feed_asked_at + watch.interval))

    def leave(self, watch: Watch) -> None:
        """Forget a wait; leaving twice does no harm."""
        run = self._runs.get(watch.run_id)
        if run is None or watch not in run.watches:
            return
        run.watches.remove(watch)
        if not run.watches:
            self._take_off(run)
            run.due_at = inf
            del self._runs[watch.run_id]

    def confirm(self, watch: Watch) -> None:
        """Have a run that looked new in a list read by itself, now."""
        run = self._runs.get(watch.run_id)
        if run is not None and not run.is_news:
            run.is_news = True
            self._schedule(run)

    # What to ask.

    def next_question(self, now: float) -> Question | float:
        """Return what to ask now, or until when there is nothing to ask, unless somebody joins."""
        if not self._runs or now < self._paused_until:
            return self._paused_until if self._runs else inf
        if self._suspect is not None:
            return self._probe()
        if not self._has_begun:
            # When a triggerer starts, its waits come one after the other, and are best looked for together.
            begins_at = min(self._last_of_the_first, self._first_begins_at + LONGEST_START)
            if now < begins_at:
                return begins_at
            self._has_begun = True
        questions: dict[str, Question] = {}
        if now >= self._feed_due_at and (of_feed := self._feed_question(now)) is not None:
            questions["feed"] = of_feed
        self._gather(now)
        wake_at = min(self._feed_due_at, self._next_due())
        if self._unread:
            questions |= self._read_questions(now)
        if not questions:
            return wake_at
        # In turn, so that none keeps another waiting for ever, however slowly Tallyfy answers.
        kind = min(questions, key=lambda kind: self._turns.get(kind, -1))
        self._turns[kind] = next(self._numbers)
        return questions[kind]

    def _probe(self) -> Question:
        """Return a question that tells whether only the suspect fails, or everything: another run each time."""
        number = next(self._numbers) % len(self._runs)
        return self._ask(next(islice(self._runs.values(), number, None)))

    def _feed_question(self, now: float) -> Question | None:
        if self._feed.page > 1 or self._wants_feed(now):
            return AskFeed(self._feed.page)
        self._stop_feed()
        self._feed_due_at = now + self._shortest_interval()
        return None

    def _wants_feed(self, now: float) -> bool:
        return (
            not self._is_given_up("feed", now)
            and self._shortest_interval() < LONGEST_UNREAD
            and self._requests_a_look(now) > FEW
        )

    def _requests_a_look(self, now: float) -> int:
        """Return how many requests it takes to read every run, as far as is known."""
        if self._is_given_up("list", now):
            return len(self._runs)
        by_status = Counter(run.status or OPEN_STATUSES[0] for run in self._runs.values() if run.is_listable)
        alone = len(self._runs) - by_status.total()
        return alone + sum(min(number, self._pages(status, number)) for status, number in by_status.items())

    def _pages(self, status: str, unknown: int) -> int:
        """Return the pages of the shortest known way through a status."""
        narrowed = [pages for listing, pages in self._sizes.items() if listing.status == status]
        return self._sizes.get(Listing(status), sum(narrowed) or unknown)

    def _gather(self, now: float) -> None:
        """Put what is due on the list of what is to be read, with all that falls due soon after."""
        if not self._agenda or self._agenda[0][0] > now:
            return
        soon = now + (0 if self._unread else CLOSE_TOGETHER * self._shortest_interval())
        not_yet = []
        while self._agenda and self._agenda[0][0] <= soon:
            entry = heapq.heappop(self._agenda)
            due_at, _, run = entry
            if due_at != run.due_at:
                continue  # it was put off, or has left
            if due_at > now and not any(watch.begins_at <= now for watch in run.watches):
                not_yet.append(entry)
                continue
            run.due_at = -inf
            self._unread[run.run_id] = run
        for entry in not_yet:
            heapq.heappush(self._agenda, entry)

    def _next_due(self) -> float:
        while self._agenda and self._agenda[0][0] != self._agenda[0][2].due_at:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else inf

    def _read_questions(self, now: float) -> dict[str, Question]:
        """Return the next question of the course through what is to be read, and one that cannot wait for its end."""
        course = self._course
        others = len(self._unread) - len(course.wanted) if course is not None else 0
        if course is None or not course.pays or (course.listing is None and others > FEW):
            course, others = self._next_course(now), 0
        questions: dict[str, Question] = {}
        if 0 < others <= FEW:
            fell_due_since = (
                run for run in reversed(self._unread.values()) if run.run_id not in course.wanted
            )
            questions["other"] = self._ask(next(fell_due_since))
        if course.listing is None:
            questions["course"] = self._ask(self._unread[next(iter(course.wanted))])
        else:
            questions["course"] = AskList(course.listing, course.page)
        return questions

    def _ask(self, run: WatchedRun) -> AskRun:
        return AskRun(run.run_id, run.with_, run.tasks)

    def _next_course(self, now: float) -> Course:
        """Choose how to read what is to be read."""
        if self._course is not None and self._course.listing is not None:
            # Not in the whole list: perhaps in another. Not in a part of it: to be read by themselves.
            status = self._course.listing.status
            tried = (status,) if self._course.is_at_end else (status, *OPEN_STATUSES)
            for run_id in self._course.wanted:
                self._runs[run_id].tried += tried
        self._course = self._course_of_the_first(now)
        return self._course

    def _course_of_the_first(self, now: float) -> Course:
        """Return the course that takes in the run that has been due for longest, so that each gets its turn."""
        alone, first = dict(self._unread), next(iter(self._unread))
        for course in self._through_lists(now):
            if first in course.wanted:
                return course
            for run_id in course.wanted:
                del alone[run_id]
        return Course(None, dict.fromkeys(sorted(alone, key=lambda run_id: not alone[run_id].is_hinted)), now)

    def _through_lists(self, now: float) -> Iterator[Course]:
        """Give the lists that take fewer requests than reading by itself each run that they show."""
        if self._is_given_up("list", now):
            return
        if now - self._sizes_since > GIVEN_UP_FOR:
            self._sizes, self._sizes_since = {}, now
        by_status: defaultdict[str, list[WatchedRun]] = defaultdict(list)
        for run in self._unread.values():
            if run.is_listable and (status := run.status_to_try()) is not None:
                by_status[status].append(run)
        for status, runs in by_status.items():
            for listing, wanted in self._narrowed(status, runs):
                if len(wanted) > FEW and self._sizes.get(listing, _UNKNOWN_PAGES) < len(wanted):
                    pages = self._sizes.get(listing)
                    yield Course(listing, dict.fromkeys(run.run_id for run in wanted), now, pages=pages)

    def _narrowed(self, status: str, runs: list[WatchedRun]) -> list[tuple[Listing, list[WatchedRun]]]:
        """Return the list of the status, or its templates' where these have fewer pages, with what each shows."""
        whole = Listing(status)
        templates: defaultdict[str | None, list[WatchedRun]] = defaultdict(list)
        for run in runs:
            templates[run.checklist_id].append(run)
        pages = sum(self._sizes.get(Listing(status, template), _UNKNOWN_PAGES) for template in templates)
        if None in templates or pages >= self._sizes.get(whole, _UNKNOWN_PAGES):
            return [(whole, runs)]
        return [(Listing(status, template), of_template) for template, of_template in templates.items()]

    # What came back.

    def answered(
        self,
        question: Question,
        answer: dict[str, Any] | Page[dict[str, Any]] | Page[Activity] | Blank,
        asked_at: float,
        now: float,
    ) -> list[tuple[Watch, Look]]:
        """Take the answer to a question, and return whom to tell what."""
        if isinstance(answer, Blank):
            return self._failed(question, answer, asked_at, now)
        self._reached(question, now)
        match question, answer:
            case AskRun(run_id), dict():
                run = self._runs.get(run_id)
                return [] if run is None else self._saw_by_itself(run, answer, asked_at)
            case AskList(), Page():
                return self._saw_list(question, answer, asked_at)  # type: ignore[arg-type]
            case AskFeed(), Page():
                self._heard(answer, asked_at, now)  # type: ignore[arg-type]
        return []

    def _reached(self, question: Question, now: float) -> None:
        """Take note that Tallyfy itself answered, whatever it said."""
        self._outages = 0
        self._failing.clear()
        suspect, self._suspect = self._suspect, None
        if not isinstance(question, AskRun):
            self._troubles[_endpoint(question)] = 0
        elif suspect is not None:
            self._troubles[suspect] += 1
            if self._troubles[suspect] >= _IN_A_ROW:
                self._give_up(suspect, self._suspicion, now)

    def _saw_by_itself(
        self, run: WatchedRun, seen: dict[str, Any], asked_at: float
    ) -> list[tuple[Watch, Look]]:
        if run.is_news:
            self._weigh_list(run.listed_next_id == next_id_of(seen), asked_at)
        changed_after = run.takes(seen, asked_at)
        if (
            changed_after is not None
            and asked_at - changed_after < REMEMBERED
            and self._feed.covers(changed_after)
            and not self._feed.told_of(run.run_id, changed_after)
        ):
            self._feed.expect(run.run_id, asked_at)
        run.is_watched_closely = run.is_hinted and changed_after is None
        run.is_hinted = run.is_news = False
        return self._saw(run, Sight(seen), asked_at)

    def _saw_list(
        self, question: AskList, page: Page[dict[str, Any]], asked_at: float
    ) -> list[tuple[Watch, Look]]:
        told: list[tuple[Watch, Look]] = []
        course = self._course
        if course is not None and course.listing != question.listing:
            course = None
        if page.total_pages is not None or page.is_last:
            pages = max(1, page.total_pages or question.page)
            self._sizes[question.listing] = pages
            if course is not None:
                course.pages = pages
        for seen in page.items:
            run = self._runs.get(str(seen.get("id")))
            if run is None or not run.is_listable:
                continue
            if course is not None and run.run_id in course.wanted:
                course.found += 1
            run.takes_from_list(seen, asked_at)
            run.is_watched_closely, run.is_hinted = run.is_hinted, False
            told += self._saw(run, Sight(seen, is_from_list=True), asked_at)
        if course is not None:
            course.page += 1
        return told

    def _saw(self, run: WatchedRun, sight: Sight, asked_at: float) -> list[tuple[Watch, Look]]:
        phase = self._course.began_at if self._course is not None else asked_at
        self._take_off(run)
        run.failures, run.tried = 0, ()
        run.status, run.checklist_id = (
            text_or_none(sight.run.get(name)) for name in ("status", "checklist_id")
        )
        told: list[tuple[Watch, Look]] = []
        for watch in run.watches:
            if watch.begins_at <= asked_at:
                watch.was_read(asked_at, phase)
                told.append((watch, sight))
        self._schedule(run)
        return told

    def _weigh_list(self, is_right: bool, now: float) -> None:
        if self._is_given_up("list", now):
            return
        self._contradictions = 0 if is_right else self._contradictions + 1
        if self._contradictions >= _IN_A_ROW:
            self._contradictions = 0
            self._give_up("list", "it shows other next tasks than the runs themselves", now)

    def _heard(self, page: Page[Activity], asked_at: float, now: float) -> None:
        since = self._feed.since
        for run_id in self._feed.read(page, now):
            if (run := self._runs.get(run_id)) is not None:
                run.is_hinted = True
                for watch in run.watches:
                    if watch.begins_at > asked_at:
                        # Who is told now may use the hint up; a worker's look, which was before, counts no more.
                        watch.read_at = watch.read_with = -inf
                self._schedule(run)
        if self._feed.page > 1:
            return
        self._feed_asked_at = asked_at
        self._feed_due_at = asked_at + self._shortest_interval()
        if (complaint := self._feed.complaint(now)) is not None:
            self._give_up("feed", complaint, now)
        elif self._feed.since != since:
            self._schedule_all()

    def _failed(
        self, question: Question, blank: Blank, asked_at: float, now: float
    ) -> list[tuple[Watch, Look]]:
        is_of_this_alone = not (blank.is_passing or blank.is_everybodys)
        if is_of_this_alone:
            self._reached(question, now)
        if isinstance(question, AskRun):
            if not is_of_this_alone and self._is_outage(question.run_id, blank):
                return self._outage(blank, asked_at, now)
            return self._failed_run(question.run_id, blank, asked_at, now)
        if is_of_this_alone:
            self._give_up(_endpoint(question), str(blank.error), now)
            return []
        return self._failed_endpoint(question, blank, asked_at, now)

    def _is_outage(self, run_id: str, blank: Blank) -> bool:
        """Tell whether a run cannot be read since nothing can: so it is with every error that lies in the way."""
        self._failing.add(run_id)
        suspect, self._suspect = self._suspect, None
        return blank.is_everybodys or suspect is not None or len(self._failing) >= _IN_A_ROW

    def _failed_endpoint(
        self, question: AskList | AskFeed, blank: Blank, asked_at: float, now: float
    ) -> list[tuple[Watch, Look]]:
        endpoint = _endpoint(question)
        self._suspect, self._suspicion = endpoint, str(blank.error)
        if blank.is_everybodys and not blank.is_refusal:
            return self._outage(blank, asked_at, now)
        wanted = self._course.wanted if self._course is not None and isinstance(question, AskList) else ()
        # A refusal ends waits, so it has to be said of a run, too, before anybody is told.
        runs = [] if blank.is_refusal else [self._runs[run_id] for run_id in wanted]
        watches = [watch for run in runs for watch in run.watches]
        return self._pause_all(self._troubles[endpoint] + 1, watches, blank, asked_at, now)

    def _outage(self, blank: Blank, asked_at: float, now: float) -> list[tuple[Watch, Look]]:
        self._outages += 1
        return self._pause_all(self._outages, self.watches(), blank, asked_at, now)

    def _pause_all(
        self, failures: int, watches: Iterable[Watch], blank: Blank, asked_at: float, now: float
    ) -> list[tuple[Watch, Look]]:
        self._paused_until = now + self._pause_after(failures, blank, self.watches())
        return [(watch, blank) for watch in watches if watch.begins_at <= asked_at]

    def _failed_run(self, run_id: str, blank: Blank, asked_at: float, now: float) -> list[tuple[Watch, Look]]:
        run = self._runs.get(run_id)
        if run is None:
            return []
        self._take_off(run)
        run.failures += 1
        run.retry_at = now + self._pause_after(run.failures, blank, run.watches)
        self._schedule(run)
        return [(watch, blank) for watch in run.watches if watch.begins_at <= asked_at]

    def _pause_after(self, failures: int, blank: Blank, watches: Iterable[Watch]) -> float:
        shortest = min((watch.interval for watch in watches), default=SHORTEST_PAUSE)
        return Pace(shortest).after_failure(failures, blank.error.retry_after)

    def _give_up(self, endpoint: str, why: str, now: float) -> None:
        names = {"list": "list of runs", "feed": "activity feed"}
        logger.warning(
            "Tallyfy's %s is not used for the next %.0f minutes, and waits go on without it: %s",
            names[endpoint],
            GIVEN_UP_FOR / 60,
            why,
        )
        self._given_up[endpoint] = now + GIVEN_UP_FOR
        self._troubles[endpoint] = 0
        if endpoint == "feed":
            self._stop_feed()
            self._feed_due_at = now + self._shortest_interval()
        elif self._course is not None and self._course.listing is not None:
            self._course = None

    def _is_given_up(self, endpoint: str, now: float) -> bool:
        return now < self._given_up.get(endpoint, -inf)

    def forget(self) -> None:
        """Forget what was learned of Tallyfy, since another person or another organization looks from now on."""
        self._sizes.clear()
        self._given_up.clear()
        self._troubles.clear()
        self._course = self._suspect = None
        for run in self._runs.values():
            run.face, run.seen_at, run.tried = None, -inf, ()
        self._stop_feed()
        self._feed_due_at = -inf

    # When what is due.

    def _stop_feed(self) -> None:
        was_followed = self._feed.is_followed
        self._feed.stop()
        self._feed_asked_at = -inf
        if was_followed:
            self._schedule_all()

    def _schedule_all(self) -> None:
        for run in self._runs.values():
            self._schedule(run)

    def _schedule(self, run: WatchedRun) -> None:
        if run.run_id in self._unread:
            return
        due_at = run.retry_at if run.failures else min(self._due(run, watch) for watch in run.watches)
        self._note_due(run, due_at)

    def _schedule_for(self, run: WatchedRun, watch: Watch) -> None:
        """Have a run read for a wait that has just come, without a look at all the others of the run."""
        if run.run_id not in self._unread and not run.failures:
            self._note_due(run, min(run.due_at, self._due(run, watch)))

    def _note_due(self, run: WatchedRun, due_at: float) -> None:
        if due_at != run.due_at:
            run.due_at = due_at
            heapq.heappush(self._agenda, (due_at, next(self._numbers), run))

    def _due(self, run: WatchedRun, watch: Watch) -> float:
        due_at = watch.due_at
        if run.is_hinted or run.is_news:
            due_at = watch.begins_at
        elif self._feed.covers(watch.read_at) and not run.is_watched_closely:
            due_at = max(due_at, watch.read_with + LONGEST_UNREAD)
        return max(min(due_at, watch.last_look_at), watch.begins_at)

    def _take_off(self, run: WatchedRun) -> None:
        """Take a run off the list of what is to be read."""
        self._unread.pop(run.run_id, None)
        if self._course is not None:
            self._course.wanted.pop(run.run_id, None)

    def _shortest_interval(self) -> float:
        return min((watch.interval for watch in self.watches()), default=SHORTEST_PAUSE)


def _endpoint(question: AskList | AskFeed) -> str:
    return "list" if isinstance(question, AskList) else "feed"
