"""`--watch`: ask again and show, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from muster.cli.context import Context, View
from muster.client.errors import TimedOut, Unreachable

PERIOD_S = 2.0
"""As fast as a person reads, and nothing to a daemon."""


def watch(
    context: Context,
    ask: Callable[[], Any],
    view: View,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Never returns. A daemon that goes away meanwhile is shown as such, and asked again; the
    first answer must come, or the error is the caller's."""
    result = ask()
    while True:
        if result is None:
            pass
        elif context.as_json:
            context.show_item(result, view)
        else:
            context.terminal.redraw(view(result))
        pause(PERIOD_S)
        try:
            result = ask()
        except (Unreachable, TimedOut) as error:
            result = None
            context.terminal.note(str(error))
