"""`muster kv`: the strongly consistent store.

A change carries a session and a request number, so it is made once however often it is asked for.
If its outcome stays unknown, `--again SESSION:REQUEST:SINCE` asks for the same change once more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from muster.cli import render
from muster.cli.parser import Verbs, count
from muster.cli.values import key_text, read_value
from muster_protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from muster.cli.context import Context
    from muster.cli.parser import Parser
    from muster_protocol.session.methods import KvListResult

_AGAIN: Final = re.compile("([0-9a-f]{32}):([0-9]{1,18}):([0-9]{1,18})")

EXAMPLES = """
muster kv put app/colour blue
muster kv put app/logo --file logo.png
openssl rand 32 | muster kv put app/seed -
muster kv get app/colour
muster kv cas app/colour 17 green      # only if it is still at revision 17
muster kv put app/lock me --create     # only if it does not exist
muster kv ls app/
muster kv del app/colour
"""


def arguments(parser: Parser) -> None:
    verbs = Verbs(parser)
    get = verbs.add("get", "write a key's value to standard output, as it is")
    get.add_argument("key", metavar="KEY")
    _add_stale(get)
    put = verbs.add("put", "set a key")
    put.add_argument("key", metavar="KEY")
    _add_value(put)
    put.add_argument("--create", action="store_true", help="only if the key does not exist")
    cas = verbs.add("cas", "set a key if nobody has changed it (0: if it does not exist)")
    cas.add_argument("key", metavar="KEY")
    cas.add_argument("revision", metavar="REVISION", type=count)
    _add_value(cas)
    delete = verbs.add("del", "remove a key")
    delete.add_argument("key", metavar="KEY")
    delete.add_argument("--revision", type=count, metavar="REVISION", help="only if it is at that")
    for change in (put, cas, delete):
        change.add_argument(
            "--again", metavar="SESSION:REQUEST:SINCE", help="repeat an unknown change"
        )
    listing = verbs.add("ls", "list keys")
    listing.add_argument("prefix", nargs="?", default="", metavar="PREFIX")
    listing.add_argument("-q", "--quiet", action="store_true", help="keys only")
    listing.add_argument("--limit", type=count, metavar="N", help="at most so many keys")
    _add_stale(listing)


def run(args: argparse.Namespace, context: Context) -> int:
    handlers = {"get": _get, "put": _put, "cas": _put, "del": _delete, "ls": _list}
    handlers[args.verb](args, context)
    return 0


def _add_stale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stale", action="store_true", help="what this node has, without asking the quorum"
    )


def _add_value(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("value", nargs="?", metavar="VALUE", help="the value; - reads it")
    parser.add_argument("--file", metavar="FILE", help="read the value from a file")


def _get(args: argparse.Namespace, context: Context) -> None:
    result = context.ask("kv.get", key=key_text(args.key), stale=args.stale)
    terminal = context.terminal
    if context.as_json:
        context.show(result, render.kv_change)
        return
    if result.outcome == "stale":
        terminal.note(render.stale(result.age_s))
    if terminal.is_terminal:
        terminal.draw(render.kv_value_on_terminal(result.entry))
    else:
        terminal.write_bytes(result.entry.value)


def _put(args: argparse.Namespace, context: Context) -> None:
    expected = args.revision if args.verb == "cas" else 0 if args.create else None
    value = read_value(args, context)
    _change(args, context, "kv.put", value=value, expected=expected)


def _delete(args: argparse.Namespace, context: Context) -> None:
    _change(args, context, "kv.delete", expected=args.revision)


def _change(args: argparse.Namespace, context: Context, method: str, **fields: Any) -> None:
    """Errors: as `ask`; of an unknown outcome, with the way to learn it as its hint."""
    from muster.client.errors import Unknown

    if args.again is not None:
        fields |= _same_change(args.again)
    try:
        result = context.ask(method, key=key_text(args.key), **fields)
    except Unknown as error:
        if not error.session:
            raise
        again = f"{error.session}:{error.request}:{error.since}"
        error.hint = f"the same command with --again {again} will tell"
        raise
    context.show(result, render.kv_change)


def _same_change(text: str) -> dict[str, Any]:
    found = _AGAIN.fullmatch(text)
    if found is None:
        raise UsageError(f"--again {text!r}: expected SESSION:REQUEST:SINCE as `muster` told it")
    session, request, since = found.groups()
    return {"session": session, "request": int(request), "since": int(since)}


def _list(args: argparse.Namespace, context: Context) -> None:
    result = _all_pages(args, context)
    if args.quiet and not context.as_json and result.outcome == "stale":
        context.terminal.note(render.stale(result.age_s))
    context.show(result, render.kv_keys if args.quiet else render.kv_list)


def _all_pages(args: argparse.Namespace, context: Context) -> KvListResult:
    """One result of all pages. Each page is a read of its own; `revision` is the first one's: what
    changed since then may or may not be in it."""
    from msgspec.structs import replace

    from muster_protocol.limits import LIST_KEYS_MAX

    entries: list[Any] = []
    first: KvListResult | None = None
    while True:
        left = LIST_KEYS_MAX if args.limit is None else args.limit - len(entries)
        page: KvListResult = context.ask(
            "kv.list",
            prefix=key_text(args.prefix),
            after=entries[-1].key if entries else "",
            limit=max(1, min(left, LIST_KEYS_MAX)),
            stale=args.stale,
        )
        first = first or page
        entries.extend(page.entries)
        enough = args.limit is not None and len(entries) >= args.limit
        if enough or not page.more or not page.entries:
            return replace(first, entries=entries[: args.limit], more=page.more)
