"""Threads that keep no process alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(Executor):
    """Runs calls in threads that nobody waits for.

    A thread of ``ThreadPoolExecutor`` that hangs keeps the process from ending, though the task that started it
    was stopped long ago. Use this one where the result is worth nothing to a process that ends.

    :param threads: how many calls run at once, 1 or more.
    :param name: what the threads are called.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call run as soon as a thread is free.

        :param fn: what to call.
        :return: the call's future.
        :raises RuntimeError: after :meth:`shutdown`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("no call is accepted after the shutdown")
            self._calls.put((future, lambda: fn(*args, **kwargs)))
            if len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
                self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """Accept no further call, and let the threads end.

        :param wait: whether to wait for the calls that have begun.
        :param cancel_futures: whether calls that haven't begun are dropped.
        """
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._drop()
            for _ in self._threads:
                self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _drop(self) -> None:
        try:
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    call[0].cancel()
        except Empty:
            pass

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, run = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(run())
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)
            # Until the next call comes, nothing of this one is kept.
            del call, future, run
