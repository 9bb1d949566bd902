"""The demo's data: CLDR dates in two languages."""

import datetime

import pytest

from s2s.errors import S2SError
from s2s.text.dates import DateWriter, make_dates, native_digits, parse_locale

DAY = datetime.date(2024, 3, 5)


def written(writer, name):
    return writer.write(DAY, next(f for f in writer.formats if f.name == name))


def test_marathi_is_written_with_its_own_digits():
    writer = DateWriter("en", "mr")
    assert written(writer, "full") == ("Tuesday, March 5, 2024", "मंगळवार, ५ मार्च, २०२४")
    assert written(writer, "long") == ("March 5, 2024", "५ मार्च, २०२४")
    assert written(writer, "medium") == ("Mar 5, 2024", "५ मार्च, २०२४")
    assert written(writer, "short") == ("3/5/24", "५/३/२४")
    assert written(writer, "yMEd") == ("Tue, 3/5/2024", "मंगळ, ५/३/२०२४")
    assert {"full", "long", "medium", "short"} < {f.name for f in writer.formats}
    assert not any(c in f.source.pattern.split("'")[0] for f in writer.formats for c in "hHms")


@pytest.mark.parametrize(
    "locale, digits",
    [
        ("mr", "०१२३४५६७८९"),
        ("ar_EG", "٠١٢٣٤٥٦٧٨٩"),
        ("fa", "۰۱۲۳۴۵۶۷۸۹"),
        ("bn", "০১২৩৪৫৬৭৮৯"),
        ("de", "0123456789"),
    ],
)
def test_digits(locale, digits):
    assert "0123456789".translate(native_digits(parse_locale(locale))) == digits


def test_a_format_that_contradicts_an_earlier_one_is_left_out():
    writer = DateWriter("en", "de")
    # "May 5, 2024" is long and medium in English, but "5. Mai 2024" and "05.05.2024" in German.
    assert "long" in {f.name for f in writer.formats} and "medium" in writer.dropped


def test_held_out_means_neither_date_nor_string_was_seen():
    data = make_dates(train=3000, valid=100, test=100)
    assert (len(data.train), len(data.valid), len(data.test)) == (3000, 100, 100)
    sources = [source for part in data[:3] for source, _ in part]
    assert len(sources) == len(set(sources))

    def full_dates(pairs):
        return {source for source, _ in pairs if source.count("/") == 2 and len(source.split("/")[-1]) == 4}

    assert full_dates(data.test)
    assert not full_dates(data.test) & full_dates(data.train)
    assert data == make_dates(train=3000, valid=100, test=100)
    assert data != make_dates(train=3000, valid=100, test=100, seed=2)


def test_unknown_locale():
    with pytest.raises(S2SError, match="babel knows no locale 'xx'"):
        make_dates(target="xx")
