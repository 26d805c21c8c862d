"""One running service for the whole ring; it is started, hurt and judged from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import pytest

from tests.acceptance.service import Service
from tests.acceptance.session import Session
from tests.acceptance.trial import Trial, Trials
from tests.acceptance.wired import Servers, Wired

Running = TypeVar("Running", bound=Service)
SESSION = pytest.StashKey[Session]()
FAST = {"SPILLWAY_WRITER_LEASE_S": "1", "SPILLWAY_MONGODB_TIMEOUT_S": "2"}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = Session.of(config)


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[SESSION].header()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only `make chaos` runs is left out of `make test`. Those with services of their own run last, alone."""
    items.sort(key=lambda item: "alone" in getattr(item, "fixturenames", ()))
    if config.getoption("--chaos"):
        return
    left_out = [item for item in items if item.get_closest_marker("chaos")]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    failed = [report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
    for line in config.stash[SESSION].summary(failed):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    return pytestconfig.stash[SESSION]


@pytest.fixture(scope="session")
def _services(session: Session) -> Iterator[list[Service]]:
    running: list[Service] = []
    yield running
    for service in running:
        assert service.stop() == 0


@pytest.fixture
def service(session: Session, _services: list[Service]) -> Service:
    """Redis, MongoDB, the witness, Ray and Serve, shared by all tests; a new one when the last test has broken it."""
    return _the_one(_services, Service, lambda: Service.start(session.room("shared"), **FAST))


@pytest.fixture
def wired(session: Session, _services: list[Service]) -> Wired:
    """A service beyond fault proxies, shared by all tests of the network."""
    return _the_one(_services, Wired, lambda: Wired.beyond(Servers(session.room("wired")), **FAST))


def _the_one(services: list[Service], kind: type[Running], start: Callable[[], Running]) -> Running:
    """The running service, if it is well and of that kind; else another in its place, so that never two run."""
    if services and (type(services[-1]) is not kind or not services[-1].well()):
        services.pop().stop()
    if not services:
        services.append(start())
    return cast(Running, services[-1])


@pytest.fixture
def alone(_services: list[Service]) -> None:
    """For what brings a Ray of its own: the shared service is stopped first, two at once would measure each other."""
    while _services:
        assert _services.pop().stop() == 0


@pytest.fixture
def start(session: Session, alone: None, request: pytest.FixtureRequest) -> Iterator[Callable[..., Service]]:
    """Starts services of this test's own, with settings as keyword arguments; they are stopped with the test."""
    running: list[Service] = []

    def start(**settings: str) -> Service:
        running.append(Service.start(session.room(request.node.name), **{**FAST, **settings}))
        return running[-1]

    yield start
    for service in running:
        service.stop()


@pytest.fixture
def trial(session: Session, request: pytest.FixtureRequest) -> Trials:
    """Makes the trial of one fault, by the name it has in the table."""

    def trial(service: Service, fault: str) -> Trial:
        made = Trial(fault, service, session.room(request.node.name), session.seed, session.patience)
        session.rows.append(made.row)
        return made

    return trial
