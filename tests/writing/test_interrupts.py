"""Ctrl-C reaches the command even where Python drops the exception."""

from __future__ import annotations

import signal

import pytest

from pyrcnn.commands import interrupts, terminal


class Callback:
    """Its destructor is interrupted, and Python drops what is raised there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        for _ in range(3):  # where Python may run the handler
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_command_at_the_next_image() -> None:
    with interrupts.noted(), terminal.bar("detecting", 2) as advance:
        advance(1)
        Callback()
        with pytest.raises(KeyboardInterrupt):
            advance(2)
    with interrupts.noted():
        interrupts.check()  # a new command starts without it


def test_an_interrupt_is_raised_at_once_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts.noted():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.noted():
            signal.raise_signal(signal.SIGINT)
            interrupts.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
