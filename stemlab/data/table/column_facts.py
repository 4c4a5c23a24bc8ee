"""What a survey saw in a column, in words: values, shares, units of times."""

from __future__ import annotations

import numpy as np

from stemlab.data.table.survey import ColumnSurvey, Survey
from stemlab.data.table.time_units import UNIT_NAMES, to_seconds, unit_of_numbers

_SMALLEST_TIME = 10**8  # seconds: numbers below are positions rather than times (1973)
_LARGEST_SECONDS = 2**34
_LONGEST = 24


def about(column: ColumnSurvey, survey: Survey) -> str:
    """Return the number of values, their range, and the share of missing cells."""
    more = "more than " if column.full else ""
    facts = [f"{more}{column.distinct:,} values"]
    if column.binary:
        facts = [f"{share(column.ones, survey)} ones"]
    elif column.kind == "integer":
        facts.append(f"{column.low:.0f} to {column.high:.0f}")
    elif column.kind == "number":
        facts.append(f"{column.low:g} to {column.high:g}")
    return ", ".join([*facts, *_missing(column, survey)])


def _missing(column: ColumnSurvey, survey: Survey) -> list[str]:
    missing = column.missing + (column.spellings.total() if column.kind != "text" else 0)
    return [f"{share(missing, survey)} missing"] if missing else []


def share(part: int, survey: Survey) -> str:
    """Return a number of rows as a percentage of all rows read."""
    return f"{100 * part / survey.rows:.3g} %"


def time_range(column: ColumnSurvey) -> str:
    """Return the unit of a time column and its first and last day."""
    if column.kind == "datetime":
        return f"ISO dates, {column.first_date} to {column.last_date}"
    ends = np.array([column.low, column.high], dtype=np.int64)
    unit = unit_of_numbers(ends)
    first, last = to_seconds(ends, unit)
    if unit == "s" and first < _SMALLEST_TIME:
        return f"integers {column.low:.0f} to {column.high:.0f}, unit unknown"
    if last > _LARGEST_SECONDS:
        return UNIT_NAMES[unit]
    days = [str(np.datetime64(int(second), "s").astype("datetime64[D]")) for second in (first, last)]
    return f"{UNIT_NAMES[unit]}, {days[0]} to {days[1]}"


def cells(column: ColumnSurvey, survey: Survey, is_time: bool) -> str:
    """Return what the cells of a column are: kind, values, range, an example of texts."""
    if column.kind == "empty":
        return "empty"
    if is_time:
        return ", ".join([time_range(column), *_missing(column, survey)])
    kind = "0 and 1" if column.binary else column.kind
    example = next((text for text in survey.first[column.name].drop_null()[:1].to_pylist() if text), None)
    shown = f", such as {str(example)[:_LONGEST]}" if column.kind == "text" and example else ""
    return f"{kind}: {about(column, survey)}{shown}"
