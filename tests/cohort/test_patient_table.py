"""The patient table in every dialect, layout and spelling; and what a bad one gets."""

from __future__ import annotations

import math
import time
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lymphoscope.cohort.dates import age_in_years
from lymphoscope.cohort.findings import Finding
from lymphoscope.cohort.options import ReadOptions
from lymphoscope.cohort.patient_table import PatientTable, read_patient_table
from lymphoscope.cohort.table_values import COUNT_UNITS
from lymphoscope.errors import InputError, LymphoscopeError

CHALLENGE = ",ID,LABEL,GENDER,DOB,LYMPH_COUNT\n"
REFERENCE = date(2020, 1, 1)


def read(folder: Path, text: str | bytes, **options: object) -> PatientTable:
    path = folder / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_patient_table(path, ReadOptions(**options))  # type: ignore[arg-type]


def refusal(folder: Path, text: str | bytes, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, **options)
    assert str(caught.value).startswith(str(folder / "table.csv"))
    return str(caught.value)


def found(table: PatientTable, code: str) -> Finding:
    (finding,) = [finding for finding in table.findings if finding.code == code]
    return finding


def codes(table: PatientTable) -> set[str]:
    return {finding.code for finding in table.findings}


def one(folder: Path, column: str, field: str, **options: object) -> PatientTable:
    return read(folder, f"ID;{column}\nP1;{field}\n", **options)


# The challenge's own table


def test_challenge_table_is_read_as_it_is(tmp_path: Path) -> None:
    table = read(
        tmp_path, CHALLENGE + "0,P7,1,M,31-07-1973,14.8\n1,P12,0,f,9/12/1959,4.78\n2,P1,-1,F,1/2/1950,5\n"
    )
    assert table.ids == ("P7", "P12", "P1")
    assert table.label.tolist() == [1, 0, -1]
    assert table.clinical.tolist() == [[46.4, 1.0, 14.8], [60.3, 0.0, 4.78], [70.0, 0.0, 5.0]]
    assert table.date_layout == ("DD-MM-YYYY", "M/D/YYYY", "M/D/YYYY")
    assert table.lines == (2, 3, 4)
    assert any("2020-01-01" in note for note in table.notes)


def test_neither_the_id_nor_the_index_becomes_a_feature(tmp_path: Path) -> None:
    first = read(tmp_path, CHALLENGE + "".join(f"{i},P{i},{i % 2},M,1/15/1950,5\n" for i in range(20)))
    second = read(
        tmp_path, CHALLENGE + "".join(f"{99 - i},X{i * 7},{i % 2},M,1/15/1950,5\n" for i in range(20))
    )
    assert first.clinical.shape == (20, 3)
    np.testing.assert_array_equal(first.clinical, second.clinical)


# Dates


@pytest.mark.parametrize(
    ("text", "born", "layout"),
    [
        ("4/14/1973", date(1973, 4, 14), "M/D/YYYY"),
        ("3/4/1973", date(1973, 3, 4), "M/D/YYYY"),
        ("03-04-1973", date(1973, 4, 3), "DD-MM-YYYY"),
        ("03.04.1973", date(1973, 4, 3), "DD.MM.YYYY"),
        ("1973-04-03", date(1973, 4, 3), "YYYY-MM-DD"),
        ("1973/04/03", date(1973, 4, 3), "YYYY/MM/DD"),
        ("1973-04-03 00:00:00", date(1973, 4, 3), "YYYY-MM-DD"),
        ("14/4/1973", date(1973, 4, 14), "D/M/YYYY"),
        ("2/29/1976", date(1976, 2, 29), "M/D/YYYY"),
    ],
)
def test_date_layouts(tmp_path: Path, text: str, born: date, layout: str) -> None:
    table = one(tmp_path, "DOB", text)
    assert table.date_layout == (layout,)
    assert table.clinical[0, 0] == age_in_years(born, REFERENCE)


def test_day_and_month_are_not_swapped(tmp_path: Path) -> None:
    """Ten months apart, so that a swap shows: the slash is month first, the hyphen day first."""
    table = read(tmp_path, "ID,DOB\nA,1/11/1950\nB,1-11-1950\nC,1/25/1950\nD,25-1-1950\n")
    by_id = dict(zip(table.ids, table.clinical[:, 0], strict=True))
    assert by_id["A"] == age_in_years(date(1950, 1, 11), REFERENCE)
    assert by_id["B"] == age_in_years(date(1950, 11, 1), REFERENCE)
    assert by_id["C"] == by_id["D"] == age_in_years(date(1950, 1, 25), REFERENCE)


def test_dates_that_could_be_either_are_reported(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,DOB\nA,3/4/1950\nB,5/5/1950\nC,1951-02-03\n")
    finding = found(table, "LYM009")
    assert finding.patients == ("A",)
    assert "month first" in finding.message
    assert "LYM010" not in codes(table)


def test_other_dates_of_the_column_settle_the_order(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,DOB\nA,3/4/1950\nB,25/5/1950\n")
    assert table.date_layout == ("D/M/YYYY", "D/M/YYYY")
    assert table.clinical[0, 0] == age_in_years(date(1950, 4, 3), REFERENCE)
    assert found(table, "LYM010").patients == ("A",)
    assert "LYM009" not in codes(table)


def test_contradicting_orders_are_reported(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,DOB\nA,3/4/1950\nB,25/5/1950\nC,5/25/1950\n")
    assert table.date_layout == ("M/D/YYYY", "D/M/YYYY", "M/D/YYYY")
    assert "both orders" in found(table, "LYM009").message
    assert table.clinical[1, 0] == table.clinical[2, 0]


def test_the_order_can_be_stated(tmp_path: Path) -> None:
    table = one(tmp_path, "DOB", "1/11/1950", date_order="day-first")
    assert table.clinical[0, 0] == age_in_years(date(1950, 11, 1), REFERENCE)
    assert "LYM009" not in codes(table)
    assert "no such day" in refusal(tmp_path, "ID,DOB\nA,1/25/1950\n", date_order="day-first")


def test_reference_date_moves_the_age(tmp_path: Path) -> None:
    earlier = one(tmp_path, "DOB", "1950-01-01").clinical[0, 0]
    later = one(tmp_path, "DOB", "1950-01-01", reference_date=date(2024, 1, 1)).clinical[0, 0]
    assert (earlier, later) == (70.0, 74.0)


@pytest.mark.parametrize(
    "text", ["4/14/73", "31-02-1973", "4 Mar 1950", "13/13/1950", "1950", "19500304", "0000-01-01"]
)
def test_bad_date_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    message = refusal(tmp_path, f"ID,DOB\nP1,{text}\n")
    assert "row 2, column DOB" in message
    assert text not in message
    assert "Mar" not in message
    digits = [c for c in message.split("found")[1].split("allowed")[0] if c.isdigit()]
    assert set(digits) == {"9"}


def test_two_digit_year_is_named(tmp_path: Path) -> None:
    assert "two digits" in refusal(tmp_path, "ID,DOB\nP1,4/14/73\n")


def test_birth_dates_are_gone_after_reading(tmp_path: Path) -> None:
    table = read(tmp_path, CHALLENGE + "0,A,1,M,4/14/1973,9\n1,B,0,M,4/14/1973,0\n2,B,0,M,5/14/1973,8\n")
    text = repr(vars(table))
    for trace in ("1973", "14)", "4/14", "date(", "datetime"):
        assert trace not in text
    assert found(table, "LYM003").patients == ("B",)


def test_age_is_too_coarse_to_give_the_birth_date_back(tmp_path: Path) -> None:
    first = one(tmp_path, "DOB", "1950-06-10").clinical[0, 0]
    assert first == one(tmp_path, "DOB", "1950-06-12").clinical[0, 0] == round(first, 1)


def test_age_column_is_taken_as_it_is(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,AGE,DOB\nA,71.25,1950-01-01\nB,,1950-01-01\nC,,\n")
    np.testing.assert_array_equal(table.clinical[:, 0], [71.25, 70.0, math.nan])


@pytest.mark.parametrize(
    ("column", "field"), [("AGE", "-1"), ("AGE", "121"), ("DOB", "2021-01-01"), ("DOB", "1850-01-01")]
)
def test_impossible_age(tmp_path: Path, column: str, field: str) -> None:
    table = one(tmp_path, column, field)
    assert found(table, "LYM005").patients == ("P1",)
    assert found(table, "LYM005").files == ("table.csv:2",)
    assert math.isnan(table.clinical[0, 0])


def test_several_layouts_are_reported(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,DOB\nA,1/25/1950\nB,2/25/1950\nC,25-3-1950\n")
    assert found(table, "LYM011").patients == ("C",)
    assert "M/D/YYYY (2), DD-MM-YYYY (1)" in found(table, "LYM011").message


def test_same_sex_and_birth_in_two_patients(tmp_path: Path) -> None:
    table = read(
        tmp_path, "ID,SEX,DOB\nA,F,1/25/1950\nB,M,25-1-1950\nC,f,1950-01-25\nD,,1950-01-25\nE,F,1950-01-26\n"
    )
    assert found(table, "LYM012").patients == ("A", "C")
    assert "1950" not in str(found(table, "LYM012").as_dict())


# Sexes


@pytest.mark.parametrize(
    ("fields", "sex"),
    [
        ("F f Female FEMALE woman W Frau weiblich femme Féminin feminin mujer", 0.0),
        ("M m Male MALE man Mann männlich homme masculin hombre h", 1.0),
    ],
)
def test_spellings_of_sex(tmp_path: Path, fields: str, sex: float) -> None:
    for field in fields.split():
        assert one(tmp_path, "GENDER", field).clinical[0, 1] == sex


def test_numbers_do_not_name_a_sex(tmp_path: Path) -> None:
    message = refusal(tmp_path, "ID,SEX\nA,0\nB,1\nC,M\n")
    assert "row 2, column SEX" in message
    assert "--sex" in message
    table = read(tmp_path, "ID,SEX\nA,0\nB,1\nC,M\n", sex_codes={"0": "female", "1": "male"})
    assert table.clinical[:, 1].tolist() == [0.0, 1.0, 1.0]


def test_h_and_m_in_one_column_are_ambiguous(tmp_path: Path) -> None:
    assert "hombre" in refusal(tmp_path, "ID,SEX\nA,H\nB,M\n")
    assert read(tmp_path, "ID,SEX\nA,H\nB,F\n").clinical[:, 1].tolist() == [1.0, 0.0]


def test_unknown_sex_is_missing_and_nonsense_refused(tmp_path: Path) -> None:
    assert math.isnan(one(tmp_path, "SEX", "unknown").clinical[0, 1])
    assert "names no sex" in refusal(tmp_path, "ID,SEX\nA,purple\n")


def test_sex_codes_must_name_a_sex(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="female or male"):
        one(tmp_path, "SEX", "1", sex_codes={"1": "purple"})


# Numbers and units


@pytest.mark.parametrize(
    ("field", "value"), [("14.8", 14.8), ("14,8", 14.8), ("1.5e1", 15.0), ("12", 12.0), (".5", 0.5)]
)
def test_numbers(tmp_path: Path, field: str, value: float) -> None:
    assert one(tmp_path, "LYMPH_COUNT", field).clinical[0, 2] == value


@pytest.mark.parametrize(
    "field", ["abc", "1.234,5", "1,234.5", "12 000", "1e999", "inf", "12x", "0x10", "١٢", "4;"]
)
def test_text_in_a_number(tmp_path: Path, field: str) -> None:
    message = refusal(tmp_path, f"ID\tLYMPH_COUNT\nP1\t5\nP2\t{field}\n")
    assert "row 3, column LYMPH_COUNT" in message
    assert "14.8" in message


def test_all_bad_cells_of_a_column_in_one_message(tmp_path: Path) -> None:
    rows = "".join(f"P{i},{'bad' if i % 2 else 5}\n" for i in range(40))
    message = refusal(tmp_path, "ID,LYMPH_COUNT\n" + rows)
    assert "19 more such rows" in message
    assert "row 3" in message
    assert "5 (bad)" in message
    assert "12 others" in message


def test_comma_that_may_separate_thousands_is_refused(tmp_path: Path) -> None:
    assert "thousands" in refusal(tmp_path, "ID;LYMPH_COUNT\nA;12,000\nB;9,500\n")
    table = read(tmp_path, "ID;LYMPH_COUNT\nA;12,000\nB;9,5\n")
    assert table.clinical[:, 2].tolist() == [12.0, 9.5]


@pytest.mark.parametrize(
    ("unit", "field"),
    [
        ("10^9/L", "14.8"),
        ("×10⁹/L", "14.8"),
        ("G/L", "14.8"),
        ("10^3/µL", "14.8"),
        ("10³/μl", "14.8"),
        ("K/uL", "14.8"),
        ("cells/µL", "14800"),
        ("/mm3", "14800"),
        ("cells / mm³", "14800"),
        ("cells/L", "14800000000"),
    ],
)
def test_units(tmp_path: Path, unit: str, field: str) -> None:
    table = one(tmp_path, "LYMPH_COUNT", field, count_unit=unit)
    assert table.clinical[0, 2] == 14.8
    assert not codes(table) & {"LYM006", "LYM007"}


def test_every_listed_unit_is_known_and_an_unknown_one_lists_them(tmp_path: Path) -> None:
    for unit in COUNT_UNITS:
        assert one(tmp_path, "LYMPH_COUNT", "5", count_unit=unit).clinical.shape == (1, 3)
    with pytest.raises(InputError, match="cells/µL"):
        one(tmp_path, "LYMPH_COUNT", "5", count_unit="percent")


def test_counts_in_another_unit_are_noticed(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,LYMPH_COUNT\nA,4800\nB,14800\nC,9000\n")
    assert "cells/µL" in found(table, "LYM007").message
    assert "LYM006" not in codes(table)
    table = read(tmp_path, "ID,LYMPH_COUNT\nA,4.8\nB,14.8\nC,9\n", count_unit="cells/µL")
    assert "10^9/L" in found(table, "LYM007").message


def test_one_very_high_count_is_no_other_unit(tmp_path: Path) -> None:
    table = one(tmp_path, "LYMPH_COUNT", "412")
    assert table.clinical[0, 2] == 412
    assert not codes(table) & {"LYM006", "LYM007"}


@pytest.mark.parametrize("field", ["0", "-3", "1001"])
def test_impossible_count(tmp_path: Path, field: str) -> None:
    table = read(tmp_path, f"ID,LYMPH_COUNT\nA,5\nB,6\nC,{field}\n")
    assert found(table, "LYM006").patients == ("C",)
    assert found(table, "LYM006").files == ("table.csv:4",)
    np.testing.assert_array_equal(table.clinical[:, 2], [5, 6, math.nan])


def test_count_below_inclusion_limit(tmp_path: Path) -> None:
    text = "ID,LYMPH_COUNT\nA,3.94\nB,4.0\nC,2.28\n"
    assert found(read(tmp_path, text), "LYM008").patients == ("A", "C")
    assert found(read(tmp_path, text, inclusion_limit=3), "LYM008").patients == ("C",)


# Labels, ids, missing values


def test_labels(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,LABEL\nA,1\nB,0.0\nC,-1\nD,\nE,NA\nF,2\nG,malignant\n")
    assert table.label.tolist() == [1, 0, -1, -1, -1, -1, -1]
    assert found(table, "LYM004").patients == ("F", "G")
    assert "malignant" in found(table, "LYM004").message
    assert found(table, "LYM013").patients == ("C", "D", "E", "F", "G")


def test_one_class_only(tmp_path: Path) -> None:
    assert "label 1" in found(read(tmp_path, "ID,LABEL\nA,1\nB,1\nC,-1\n"), "LYM021").message
    assert "LYM021" not in codes(read(tmp_path, "ID,LABEL\nA,1\nB,0\n"))
    assert "LYM021" not in codes(read(tmp_path, "ID,LABEL\nA,-1\n"))


def test_ids_are_kept_as_text(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,LABEL\n 007 ,1\n7,0\nNA,1\nP 1,0\n1e3,1\nÄ-ö,0\n-,1\n-12,0\n")
    assert table.ids == ("007", "7", "NA", "P 1", "1e3", "Ä-ö", "-", "-12")


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc", "/etc/passwd", "..", ".", "a/b", "a\\b", "C:\\x", "a\x07b", "a\u202eb", "a\nb"),
        *("=1+1", "@SUM(A1)", "-2+cmd|' '!A0", "P" * 256),
    ],
)
def test_dangerous_id_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, f'ID,LABEL\nP1,1\n"{name}",0\n')
    assert "row 3, column ID" in message
    assert message.isprintable()


def test_empty_id_is_refused(tmp_path: Path) -> None:
    assert "the id is empty" in refusal(tmp_path, "ID,LABEL\nP1,1\n ,0\n")


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    table = read(tmp_path, CHALLENGE + "0,A,1,,,\n1,B,0,NA,n/a,nan\n2,C,1,M,1/25/1950,9\n")
    assert np.isnan(table.clinical[:2]).all()
    assert found(table, "LYM014").patients == ("A", "B")
    assert "age of 2, sex of 2, lymphocyte count of 2" in found(table, "LYM014").message


def test_table_of_ids_alone(tmp_path: Path) -> None:
    table = read(tmp_path, "ID\nA\nB\n")
    assert table.label.tolist() == [-1, -1]
    assert "no label column" in found(table, "LYM013").message


# Repeated rows


def test_identical_rows_are_joined(tmp_path: Path) -> None:
    table = read(tmp_path, "ID,LABEL,LYMPH_COUNT\nA,1,5\nB,0,6\nA,1,5.0\n")
    assert table.ids == ("A", "B")
    assert found(table, "LYM001").files == ("table.csv:2", "table.csv:4")
    assert table.clinical[0, 2] == 5


def test_conflicting_labels_and_values(tmp_path: Path) -> None:
    table = read(
        tmp_path, "ID,LABEL,LYMPH_COUNT,DOB\nA,1,5,1/25/1950\nA,0,5,25-1-1950\nB,1,5,\nB,1,6,\nC,0,7,\n"
    )
    assert table.ids == ("A", "B", "C")
    assert table.label.tolist() == [-1, 1, 0]
    assert found(table, "LYM002").patients == ("A",)
    assert found(table, "LYM003").patients == ("B",)
    np.testing.assert_array_equal(table.clinical[:, 2], [5, math.nan, 7])
    assert table.clinical[0, 0] == 69.9


# Dialects and bad tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_dialects(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    lines = ["ID,Name,GENDER,LABEL", "Zoë,x,F,1", "B,y,M,0"]
    table = read(tmp_path, end.join(lines).replace(",", delimiter).encode(encoding))
    assert table.ids == ("Zoë", "B")
    assert table.label.tolist() == [1, 0]
    assert "LYM016" not in codes(table)


def test_latin_1_is_read_and_reported(tmp_path: Path) -> None:
    table = read(tmp_path, "ID;GENDER\nZoë;männlich\n".encode("latin-1"))
    assert (table.ids, table.clinical[0, 1]) == (("Zoë",), 1.0)
    assert "Latin-1" in found(table, "LYM016").message


def test_semicolons_with_decimal_commas(tmp_path: Path) -> None:
    table = read(
        tmp_path, "ID;LABEL;GENDER;DOB;LYMPH_COUNT\nP1;1;Frau;31.07.1973;14,8\nP2;0;Mann;01.12.1950;4,75\n"
    )
    assert table.clinical.tolist() == [[46.4, 0.0, 14.8], [69.1, 1.0, 4.75]]


def test_excel_hint_and_blank_lines_and_repeated_header(tmp_path: Path) -> None:
    table = read(tmp_path, "sep=;\r\n\r\nID;LABEL\r\nA;1\r\n;\r\nID;LABEL\r\nB;0\r\n\r\n")
    assert table.ids == ("A", "B")
    assert table.lines == (4, 7)
    finding = found(table, "LYM017")
    assert "3 blank, 1 repeating" in finding.message
    assert finding.files == ("table.csv:6",)


def test_quoted_fields(tmp_path: Path) -> None:
    table = read(tmp_path, 'ID,Comment,LABEL\nA,"first, second\nthird ""x""",1\nB,,zzz\n')
    assert table.ids == ("A", "B")
    assert found(table, "LYM004").files == ("table.csv:4",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b";;\n", "empty"),
        (b"ID,LABEL\n", "no rows"),
        (b"PK\x03\x04xxxx", "spreadsheet"),
        (b"ID,LABEL\nA\x00,1\n", "zero bytes"),
        (b"\xff\xfeabc", "UTF-16"),
        (b'ID,LABEL\n"A,1\n', "quotation mark"),
        (b"ID,LABEL\nA,1\nB\n", "row 3"),
        (b"ID,LABEL\nA,1\nB,0,7\n", "3 fields"),
        (b"ID|LABEL\nA|1\n", "one column"),
        (b"ID LABEL\nA 1\n", "one column"),
        (b"NAME,LABEL\nA,1\n", "--column id=COLUMN"),
        (b"ID,LABEL,LABEL\nA,1,0\n", "several columns"),
        (b"ID,PATIENT\nA,1\n", "several columns"),
    ],
)
def test_bad_tables(tmp_path: Path, text: bytes, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_missing_table_and_folder_instead_of_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table"):
        read_patient_table(tmp_path / "none.csv", ReadOptions())
    with pytest.raises(InputError, match="not a file"):
        read_patient_table(tmp_path, ReadOptions())


def test_table_without_header_shows_no_patient(tmp_path: Path) -> None:
    message = refusal(tmp_path, "P1,1,M,31-07-1973,14.8\nP2,0,F,9/12/1959,4.78\n")
    assert "names of the columns" in message
    assert "1973" not in message


def test_a_year_in_a_columns_name_is_shown_but_not_in_a_field(tmp_path: Path) -> None:
    assert "LABEL_2020" in refusal(tmp_path, "Nr,LABEL_2020\nA,1\n")
    assert "4 Mar 1950" not in refusal(tmp_path, "Nr,4 Mar 1950\nA,1\n")
    assert "1950" not in refusal(tmp_path, "ID,LYMPH_COUNT\nA,Mar 1950\n")


def test_missing_column_lists_those_found(tmp_path: Path) -> None:
    message = refusal(tmp_path, "PatientNo,LABEL\nA,1\n")
    assert "PatientNo, LABEL" in message
    table = read(tmp_path, "PatientNo,LABEL\nA,1\n", columns={"id": "PatientNo"})
    assert table.ids == ("A",)
    assert "'ALC'" in refusal(tmp_path, "ID\nA\n", columns={"lymphocyte_count": "ALC"})
    with pytest.raises(InputError, match="lymphocyte_count"):
        read(tmp_path, "ID\nA\n", columns={"lymphs": "ALC"})


def test_named_columns(tmp_path: Path) -> None:
    header = "Nr;Diagnose;Geschlecht;Geboren;Alter;ALC;Teil;ID\n"
    text = header + "x;1;w;1.2.1950;70;5;Train;9\ny;0;m;;60;6;testset;8\n"
    columns = {
        "id": "Nr",
        "label": "Diagnose",
        "sex": "Geschlecht",
        "dob": "Geboren",
        "age": "Alter",
        "lymphocyte_count": "ALC",
        "split": "Teil",
    }
    table = read(tmp_path, text, columns=columns)
    assert table.ids == ("x", "y")
    assert table.split == ("train", "test")
    assert table.clinical.tolist() == [[70, 0, 5], [60, 1, 6]]
    assert found(table, "LYM015").message.endswith("not used: ID.")


def test_other_columns_are_ignored_without_their_values(tmp_path: Path) -> None:
    table = read(tmp_path, ",ID,Surname,LABEL\n0,A,Meyer,1\n1,B,Schulz,0\n")
    finding = found(table, "LYM015")
    assert "number 1 (unnamed), Surname" in finding.message
    assert "Meyer" not in repr(vars(table))


def test_bad_split_is_refused(tmp_path: Path) -> None:
    assert "train, test" in refusal(tmp_path, "ID,SPLIT\nA,validation\n")


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """About 1.5 s on a quiet core; the limit only catches what grows faster than the table."""
    rows = (
        f"P{i},{i % 3 - 1},{'MF'[i % 2]},{i % 12 + 1}/{i % 28 + 1}/{1930 + i % 60},{4 + i % 90}.5\n"
        for i in range(100_000)
    )
    text = "ID,LABEL,GENDER,DOB,LYMPH_COUNT\n" + "".join(rows)
    start = time.process_time()
    table = read(tmp_path, text)
    assert time.process_time() - start < 10
    assert len(table) == 100_000
    assert table.clinical[-1].tolist() == [
        age_in_years(date(1930 + 99_999 % 60, 99_999 % 12 + 1, 99_999 % 28 + 1), REFERENCE),
        0.0,
        4.5 + 99_999 % 90,
    ]


# Properties

IDS = st.text(
    st.characters(categories=("Lu", "Ll", "Nd"), include_characters="-_ "), min_size=1, max_size=8
).map(str.strip)
SEXES = {0.0: ["F", "f", "Female", "Frau", "femme"], 1.0: ["M", "m", "Male", "Mann", "homme"]}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[str, int, float | None, date | None, float | None]], bytes]:
    """Patients, and a table of them in a dialect drawn at random."""
    patients = draw(
        st.lists(
            st.tuples(
                IDS.filter(bool),
                st.sampled_from([-1, 0, 1]),
                st.sampled_from([None, 0.0, 1.0]),
                st.none() | st.dates(date(1901, 1, 1), date(2005, 12, 31)),
                st.none() | st.integers(401, 20000).map(lambda n: n / 100),
            ),
            min_size=1,
            max_size=12,
            unique_by=lambda patient: patient[0],
        )
    )
    delimiter = draw(st.sampled_from(",;\t"))
    layout = draw(st.sampled_from(["{d.year:04}-{d.month:02}-{d.day:02}", "{d.month}/{d.day}/{d.year}"]))
    comma = draw(st.booleans())
    order = draw(st.permutations(range(5)))
    quote = draw(st.booleans())

    def field(value: str) -> str:
        return f'"{value}"' if quote or delimiter in value else value

    header = ["ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
    lines = [delimiter.join(field(header[at]) for at in order)]
    for patient, label, sex, born, count in patients:
        fields = [
            patient,
            draw(st.sampled_from(["", "-1", "NA"])) if label == -1 else str(label),
            "" if sex is None else draw(st.sampled_from(SEXES[sex])),
            "" if born is None else layout.format(d=born),
            "" if count is None else f"{count:.2f}".replace(".", "," if comma else "."),
        ]
        lines.append(delimiter.join(field(fields[at]) for at in order))
        lines += [""] * draw(st.integers(0, 1))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return patients, (draw(st.sampled_from(["\n", "\r\n"])).join(lines) + "\n").encode(encoding)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_any_table_in_any_dialect_gives_the_same_values(
    tmp_path: Path, drawn: tuple[list[tuple[str, int, float | None, date | None, float | None]], bytes]
) -> None:
    patients, text = drawn
    table = read(tmp_path, text, date_order="month-first")
    assert table.ids == tuple(patient[0] for patient in patients)
    assert table.label.tolist() == [patient[1] for patient in patients]
    expected = [
        [
            math.nan if born is None else age_in_years(born, REFERENCE),
            math.nan if sex is None else sex,
            math.nan if count is None else count,
        ]
        for _, _, sex, born, count in patients
    ]
    np.testing.assert_array_equal(table.clinical, expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
@example(b"sep=;")
@example(b"\xfe\xff")
@example(b'"')
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path: Path, text: bytes) -> None:
    for prefix in (
        b"",
        b"ID,LABEL,GENDER,DOB,LYMPH_COUNT,AGE,SPLIT\n",
        b"ID\tDOB\nP1\t",
        b"ID;LYMPH_COUNT\nP1;",
    ):
        try:
            table = read(tmp_path, prefix + text)
        except LymphoscopeError as error:
            assert str(error).endswith((".", ")"))
        else:
            assert table.clinical.shape == (len(table.ids), 3)
