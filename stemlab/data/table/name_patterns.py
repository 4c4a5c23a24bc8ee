"""Patterns of column names that suggest a role."""

from __future__ import annotations

import re


def _word(*names: str) -> re.Pattern[str]:
    """Return a pattern that matches any of the words between underscores, dots, hyphens, spaces or ends of a name."""
    return re.compile(rf"(^|[_.\- ])({'|'.join(names)})($|[_.\- ])", re.IGNORECASE)


_LABELS = (
    *("labels?", "target", "y", "clk", "click(ed|s)?", "likes?", "liked", "shared?", "follow(ed|s)?", "buy", "bought"),
    *("purchased?", "conver(t|ted|sion)", "cvr", "ctr", "order(ed)?", "finish(ed)?", "cart", "favou?rited?", "comment"),
    *("forward", "installed?", "subscribed?", "churn(ed)?", "long_view", "hate", "response", "outcome"),
)
LABEL_PATTERN = _word(*_LABELS)
PLAIN_LABEL_PATTERN = re.compile(rf"((is|has|did)_)?({'|'.join(_LABELS)})", re.IGNORECASE)
"""A whole name that can only be a label."""
ACTION_PATTERN = _word(
    *(
        "enter(ed)?",
        "exit(ed)?",
        "view(ed)?",
        "watched",
        "played",
        "listened",
        "download(ed)?",
        "saved?",
        "collect(ed)?",
    ),
    *(
        "report(ed)?",
        "disliked?",
        "skip(ped)?",
        "swiped?",
        "expand(ed)?",
        "completed?",
        "visit(ed)?",
        "opened",
        "voted?",
    ),
    *(
        "submit(ted)?",
        "register(ed)?",
        "sign_?up",
        "checkout",
        "pay",
        "paid",
        "payment",
        "wish(list)?",
        "book(ed|ing)",
        "quoted?",
    ),
    *("retweet(ed)?", "react(ed|ion)?", "up_?vote", "down_?vote", "tap(ped)?", "bounced?", "returned", "repl(y|ied)"),
    *("refund(ed)?", "hid(e|den)", "block(ed)?", "unfollow(ed)?", "engaged?", "engagement", "interact(ed|ion)?"),
    *("feedback", "interested", "deposit(ed)?", "default(ed)?", "action", "success", "positive", "negative"),
    *("appl(y|ied)",),
)
"""Words of a column of 0 and 1 that is an action of the user rather than an attribute."""
LATE_PATTERN = _word(
    "(play|watch|dwell|stay|view|read)(ing)?_?(time|duration|secs?|seconds|ms)",
    *("(play|watch|view|read)(ing)?_?(ratio|percent(age)?|pct|progress|rate)", "completion", "progress"),
    *("rating", "stars", "revenue", "gmv", "profit", "reward", "payout"),
    "(click|conver(t|sion)|purchase|order|buy|install|pay|payment)(ed)?_(time|timestamp|ts|at|date)",
)
EVENT_PATTERN = _word(
    "(request|req|trace|log|impression|imp|event|exposure|pv|record|row|transaction|query|search|message|msg)_?id",
    *("uuid", "guid", "request", "index", "row_?num(ber)?"),
)
"""Identifiers of a single impression or request, which do not come again."""
SESSION_PATTERN = _word("session", "session_?id", "visit_?id")
WEIGHT_PATTERN = _word(
    "(sample|sampling|row|instance|example|case|loss|importance|train(ing)?)_?(weight|prob(ability)?|rate|ratio)s?",
    *("weights", "propensity", "ips", "ipw", "inverse_propensity"),
)
TIME_PATTERN = _word(
    "time", "timestamp", "ts", "date", "datetime", "day", "dt", "time_ms", "created(_at)?", "event_time"
)
ATTRIBUTE_DATE_PATTERN = _word(
    *(
        "birth_?(day|date)?",
        "dob",
        "born",
        "sign_?up",
        "register(ed)?",
        "registration",
        "join(ed)?",
        "member_since",
        "release(d)?",
    ),
    *("publish(ed)?", "publication", "upload(ed)?", "launch(ed)?", "expir(y|es|ed|ation)", "updated"),
)
"""Words of a date that describes the user or the item, not the impression."""
GROUP_PATTERNS = (
    _word("user", "uid", "userid", "u"),
    _word("member", "customer", "visitor", "account", "session", "buyer"),
)
SCENARIO_PATTERN = _word(
    "scenario", "scene", "domain", "country", "tab", "channel", "surface", "market", "region", "platform"
)
MAIN_SCENARIO_PATTERN = _word("scenario", "scene", "domain", "tab", "surface")
"""Names that are preferred to those of ``SCENARIO_PATTERN``."""
HISTORY_PATTERN = re.compile(
    r"hist|(^|[_.\- ])(seq(uence)?s?|past|prev(ious)?|recent(ly)?|last|behaviors?|behaviours?|click(ed|s)?|view(ed|s)?"
    r"|watched|played|bought|purchased?|visited|liked)($|[_.\- ])",
    re.IGNORECASE,
)
"""Words in the name of a column of lists of earlier items."""
ITEM_PATTERN = re.compile(
    r"item|video|movie|film|product|goods|article|news|song|track|book|asin|sku|photo|game|(^|_)(iid|pid|vid)s?($|_)",
    re.IGNORECASE,
)
LIST_WEIGHT_PATTERN = re.compile(r"weight|score|prob|(^|_)w(ts?)?($|_)", re.IGNORECASE)
SPLIT_PATTERN = _word("split", "fold", "subset", "partition", "set")
CATEGORY_PATTERN = _word(
    *("id", "uid", "iid", "pid", "code", "type", "cat", "category", "class", "zip", "zipcode", "postal", "brand"),
    *("gender", "sex", "city", "device", "os", "browser", "page", "hour", "weekday", "dow", "month", "occupation"),
    *("genre", "tag", "music", "author", "shop", "store", "seller", "user", "item", "video", "hash", "is", "has"),
)
AMOUNT_PATTERN = _word(
    *("age", "price", "cost", "count", "cnt", "num", "n", "amount", "duration", "length", "size", "score", "rate"),
    *("ratio", "avg", "mean", "sum", "days", "width", "height", "weight", "distance", "bid", "percent", "pct"),
)
