"""Dates as CLDR (through babel) writes them in two languages: data for a small translation task."""

import datetime
import random
import re
import unicodedata
from typing import Any, NamedTuple

from ..errors import S2SError

FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2100, 12, 31)
NAMED = ("full", "long", "medium", "short")
DATE_FIELDS = set("GyYuUrQqMLlwWdDFgEec")  # the letters of a CLDR pattern that a date alone can fill


class Format(NamedTuple):
    name: str  # "full", or a skeleton such as "yMMMd"
    source: object  # babel's DateTimePattern
    target: object


def parse_locale(name: str) -> Any:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        raise S2SError(f"babel knows no locale {name!r}.") from None


def is_date_pattern(pattern: str) -> bool:
    letters = re.findall("[A-Za-z]", re.sub("'[^']*'", "", pattern))
    return bool(letters) and set(letters) <= DATE_FIELDS


def native_digits(locale: Any) -> Any:
    """A table for str.translate from 0-9 to the digits of the locale's default CLDR numbering system.

    babel prints a date's numbers in Latin digits whatever the locale.
    """
    system = locale.default_numbering_system
    if system == "latn":
        return {}
    names = {"arab": "ARABIC-INDIC", "arabext": "EXTENDED ARABIC-INDIC", "beng": "BENGALI", "orya": "ORIYA"}
    # Systems are called by their script's ISO 15924 code; CLDR's names of these scripts are not Unicode's.
    script = names.get(system) or parse_locale("en").scripts.get(system.title(), "").upper()
    try:
        zero = ord(unicodedata.lookup(f"{script} DIGIT ZERO"))
    except KeyError:
        raise S2SError(f"the digits of numbering system {system!r} of locale {locale} are unknown.") from None
    return {ord("0") + i: zero + i for i in range(10)}


def find_formats(source: str = "en", target: str = "mr") -> list[Any]:
    """All Formats that both locales have: the four named ones, then the skeletons, in that order."""
    source, target = parse_locale(source), parse_locale(target)
    found = [Format(name, source.date_formats[name], target.date_formats[name]) for name in NAMED]
    from_skeleton, to_skeleton = source.datetime_skeletons, target.datetime_skeletons
    shared = sorted(set(from_skeleton) & set(to_skeleton))
    found += [Format(name, from_skeleton[name], to_skeleton[name]) for name in shared]
    return [f for f in found if is_date_pattern(f.source.pattern) and is_date_pattern(f.target.pattern)]


class DateWriter:
    """Writes dates in two locales; ``formats`` are those that never contradict an earlier one.

    Two formats can give the same source with different targets, such as "May 5, 2024" long and medium where
    only the other language has an abbreviation. No model can be right about both, so the later format is left
    out; ``dropped`` names it. Whether two formats do this is found by writing many dates.
    """

    def __init__(self, source: str = "en", target: str = "mr") -> None:
        self.source, self.target = parse_locale(source), parse_locale(target)
        self.digits = (native_digits(self.source), native_digits(self.target))
        sample = random.Random(0).sample(range(LAST.toordinal() - FIRST.toordinal() + 1), 400)
        dates = [FIRST + datetime.timedelta(days=n) for n in sample]
        self.formats, self.dropped, known = [], [], {}
        for form in find_formats(source, target):
            written = dict(self.write(date, form) for date in dates)
            clear = all(self.write(date, form)[1] == written[self.write(date, form)[0]] for date in dates)
            if clear and all(known.get(text, other) == other for text, other in written.items()):
                known.update(written)
                self.formats.append(form)
            else:
                self.dropped.append(form.name)

    def write(self, date, form):
        """(source, target) of one date in one format."""
        return (
            form.source.apply(date, self.source).translate(self.digits[0]),
            form.target.apply(date, self.target).translate(self.digits[1]),
        )


class DateData(NamedTuple):
    train: list  # [(source, target)]
    valid: list
    test: list
    formats: list[str]
    dropped: list[str]


def make_dates(
    train: int = 60_000, valid: int = 500, test: int = 1_000, source: str = "en", target: str = "mr", seed: int = 1
) -> DateData:
    """Pairs for training, validation and test, each of a random date of 1900-2100 in a random format.

    The dates of the three sets are different, and so are the source strings: what is held out was never seen
    in training as a date, nor as a string ("March 5" belongs to many dates, "3/5/24" to two).
    """
    writer = DateWriter(source, target)
    rng = random.Random(seed)
    days = list(range(FIRST.toordinal(), LAST.toordinal() + 1))
    rng.shuffle(days)
    held = len(days) // 20
    pools = {"test": days[:held], "valid": days[held : 2 * held], "train": days[2 * held :]}

    def draw(pool):
        return writer.write(datetime.date.fromordinal(rng.choice(pool)), rng.choice(writer.formats))

    sets, taken = {}, {}
    # Training first: short formats recur with every date, and what it has seen is no longer held out.
    for name, count in (("train", train), ("valid", valid), ("test", test)):
        chosen, tries = {}, 0
        while len(chosen) < count and tries < 20 * count:
            tries += 1
            text, translation = draw(pools[name])
            if text not in taken and chosen.setdefault(text, translation) != translation:
                raise AssertionError(f"{text!r} has two translations")  # DateWriter keeps this from happening
        taken.update(chosen)
        sets[name] = list(chosen.items())
        rng.shuffle(sets[name])
    return DateData(**sets, formats=[f.name for f in writer.formats], dropped=writer.dropped)
