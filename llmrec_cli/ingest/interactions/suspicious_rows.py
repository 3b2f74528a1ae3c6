"""Warnings about rows that no customer made: users busier than a person can be, and times that lie in the future."""

import time

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.reject_reasons import OUT_OF_RANGE
from llmrec_cli.ingest.audit.shape import format_time
from llmrec_cli.ingest.engine import collect
from llmrec_cli.ingest.interactions.id_codes import CodedRows
from llmrec_cli.ingest.interactions.temporal import FarRows
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.readers.rejects import Rejects
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.settings.typed_lists import list_setting

_HOUR, _DAY = 3_600_000, 86_400_000
_FEWEST, _TIMES = 500, 20
"""A busy user has more than so many interactions, and than so many times the median of all users: in data of a few
days, or of music, people may have more interactions than there are hours."""
_NUM_EXAMPLES, _MOST_LISTED = 5, 20


def warn_of_suspicious_rows(coded: CodedRows, rows: Table, unit: str, far: list[FarRows], account: Account) -> None:
    """Add warnings about rows in the future and about users with more rows than the data has hours.

    `rows` are the rows of `coded` that the settings keep, before pairs are merged; `far` are the far rows among them,
    which have warnings of their own. Data without times, or with an order instead, has no hours.
    """
    if unit in ("", "order"):
        return
    [limits] = collect(rows.agg(first=rows.timestamp.min(), last=rows.timestamp.max())).to_pylist()
    if limits["first"] is None:
        return
    now = int(time.time() * 1000)
    if limits["last"] > now + _DAY:
        _warn_of_future(rows, unit, now, far, account)
    # Far rows would stretch the time span.
    first = max((one.sound for one in far if one.at < one.sound), default=limits["first"])
    last = min((one.sound for one in far if one.at > one.sound), default=limits["last"])
    _warn_of_busy(coded, rows, unit, first, last, account)


def _warn_of_future(rows: Table, unit: str, now: int, far: list[FarRows], account: Account) -> None:
    late = rows.filter(rows.timestamp > now + _DAY)
    [ends] = collect(late.agg(num=late.count(), first=late.timestamp.min(), last=late.timestamp.max())).to_pylist()
    if any(one.at > one.sound and one.num >= ends["num"] for one in far):
        return  # The warning about far rows is about all of them.
    first, last, today = (str(format_time(at, unit)) for at in (ends["first"], ends["last"], now))
    account.warnings.append(Phrase(
        "{num:,} interactions are in the future ({first} to {last}; today is {today}); the cause may be a wrong clock "
        "or a wrong dataset.timestamp_format; dataset.newest={today} leaves them out", num=ends["num"], first=first,
        last=last, today=today[:10]))


def _warn_of_busy(coded: CodedRows, rows: Table, unit: str, first: int, last: int, account: Account) -> None:
    hours = (last - first) // _HOUR
    sized = rows.group_by("user").agg(num=rows.count())
    [all_] = collect(sized.agg(total=sized.num.sum(), median=sized.num.median(),
                               most=sized.num.max())).to_pylist()
    least = max(hours, _FEWEST, _TIMES * (all_["median"] or 0))
    if (all_["most"] or 0) <= least:
        return
    busy = sized.filter(sized.num > least).inner_join(coded.users, "user")
    found = collect(busy.order_by(ibis.desc("num"), "user_id").select("user_id", "num")).to_pylist()
    total, share_of = int(all_["total"]), sum(row["num"] for row in found)
    account.busy_users |= {row["user_id"] for row in found}
    listed = [row["user_id"] for row in found[:_MOST_LISTED]]
    examples = ", ".join(f"'{row['user_id']}' ({row['num']:,})" for row in found[:_NUM_EXAMPLES])
    values = {"hours": hours, "first": format_time(first, unit), "last": format_time(last, unit), "rows": share_of,
              "total": total, "share": share_of / total,
              "examples": f"{examples}{', ...' if found[_NUM_EXAMPLES:] else ''}"}
    which = (Phrase("{num:,} users have more interactions than the data has hours ({hours:,}, from {first} to {last}), "
                    "{rows:,} of {total:,} rows ({share:.0%}): {examples}", num=len(found), **values) if found[1:] else
             Phrase("1 user has more interactions than the data has hours ({hours:,}, from {first} to {last}), "
                    "{rows:,} of {total:,} rows ({share:.0%}): {examples}", **values))
    setting = list_setting("dataset.drop_users", listed)
    effect = (Phrase("{setting} leaves the busiest {num} out", setting=setting, num=_MOST_LISTED)
              if len(found) > _MOST_LISTED else Phrase("{setting} leaves them out", setting=setting) if found[1:] else
              Phrase("{setting} leaves it out", setting=setting))
    account.warnings.append(Phrase("{which}; programs such as crawlers look like this; {effect}", which=which,
                                   effect=effect))


def warn_of_rejected_times(files: list[str], rejects: Rejects, account: Account) -> None:
    """Add a warning about rows that were rejected for a time before 1970 or after 2100, such as -1 for a missing time.
    """
    for file in files:
        causes = [number for column, reason, number in rejects.causes(file)
                  if column == "timestamp" and OUT_OF_RANGE in reason] if rejects.count(file) else []
        if causes:
            texts = [one.reason.split("' is", 1)[0] + "'" for one in rejects.first(file) if one.column == "timestamp"]
            account.caution(
                Phrase("{file}: {num:,} rows rejected (listed in rejects.parquet): their time, for example {example}, "
                       "cannot be read, or is before 1970 or after 2100; write missing times as an empty field, or "
                       "leave these rows out of the export", file=file, num=sum(causes), example=texts[0]) if texts else
                Phrase("{file}: {num:,} rows rejected (listed in rejects.parquet): their time cannot be read, or is "
                       "before 1970 or after 2100; write missing times as an empty field, or leave these rows out of "
                       "the export", file=file, num=sum(causes)))
