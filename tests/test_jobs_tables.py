"""Tables as people have them: any encoding, spreadsheets, and mistakes that must not pass in silence."""

import csv
import zipfile

import pytest

from facechain.errors import ConfigError
from facechain.jobs import report, sheet
from facechain.jobs.report import Outcome

TEXT = "people,styles,count,prompt\nAda,astronaut,1,café\n"


def read(file, content, said=None, encoding=""):
    file.write_bytes(content)
    say = (lambda line: None) if said is None else said.append
    return [(o.line, *o.people, o.prompt) for o in sheet.read(file, sheet.Defaults(), say, encoding)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_without_a_word(tmp_path, encoding):
    said = []
    assert read(tmp_path / "t.csv", TEXT.encode(encoding), said) == [(2, "Ada", "café")]
    assert said == []


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("José Müller", "cp1252"),
        ("Łukasz Żółć", "cp1250"),
        ("Иван Петров", "cp1251"),
        ("张伟", "gb18030"),
        ("陳大文", "big5"),
        ("さくら", "cp932"),
        ("김철수", "cp949"),
    ],
)
def test_what_spreadsheets_save_as_csv_is_read_and_the_guess_is_said(tmp_path, name, encoding):
    said = []
    assert read(tmp_path / "t.csv", f"people,styles\n{name},chef\n".encode(encoding), said) == [(2, name, "")]
    assert encoding in said[0]
    assert "--encoding" in said[0]


def test_an_encoding_that_is_named_is_not_guessed(tmp_path):
    said = []
    text = "people\n김철수\n"
    assert read(tmp_path / "t.csv", text.encode("euc_kr"), said, "euc_kr") == [(2, "김철수", "")]
    assert said == []
    for wrong in ("utf-8", "nonsense"):
        with pytest.raises(ConfigError, match=f"not text in '{wrong}'"):
            read(tmp_path / "t.csv", text.encode("euc_kr"), encoding=wrong)


def test_latin_1_lines_of_json(tmp_path):
    assert read(tmp_path / "t.jsonl", '{"people":"José"}\n'.encode("latin1")) == [(1, "José", "")]


def test_the_columns_of_a_spreadsheet_whatever_their_case_and_its_own_first_line(tmp_path):
    assert read(tmp_path / "t.csv", b"sep=;\r\nPeople;Prompt\r\nAda;rain\r\n") == [(3, "Ada", "rain")]
    (order,) = sheet.read(_saved(tmp_path, "name,Consent by\nAda,Ada L.\n"), sheet.Defaults())
    assert (order.people, order.consent_by) == (("Ada",), "Ada L.")


def _saved(folder, text):
    (folder / "s.csv").write_text(text)
    return folder / "s.csv"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('people,prompt\nAda,"5 feet tall\nAda,x\nBo,y\n', "line 2 opens a quote that is never closed"),
        ('people,prompt\nAda,"5 feet\nBo,"tall"\n', "line 2 has a quote inside"),
        ("people,people\nAda,Bo\n", "line 1 names the column 'people' twice"),
        ("people,People\nAda,Bo\n", "line 1 names the column 'people' twice"),
        ("person,name\nAda,Bo\n", "line 2 names 'people' twice"),
        ('people,prompt\nAda,"' + "x" * 140_000 + '"\n', "line 2 has a cell of more than 131,072"),
        ("people,prompt\nAda," + "x" * 3000 + "\n", "line 2: prompt has 3,000 characters"),
        ("people,prompt\nAda,<lora:x:1>\n", "line 2: prompt contains '<lora:x:1>'"),
        ("people\nA\0da\n", "line 2 contains a NUL"),
        ("people,,styles\nAda,x,chef\n", "line 2 has 'x' in a column without a name"),
        ("PK\3\4\x14", "is a workbook"),
    ],
)
def test_what_would_be_lost_in_silence_is_refused_by_line(tmp_path, content, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path / "t.csv", content.encode())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 100_000, "line 1 is nested too deeply"),
        ('{"people":"Ada","people":"Bo"}', "line 1 names 'people' twice"),
        ('\n{"people":"Ada","person":"Bo"}', "line 2 names 'people' twice"),
        ('{"people":"Ada","prompt":"\\ud800"}', "line 1: prompt contains half"),
        ('{"people":"Ada","settings":{"scale":NaN}}', "line 1: scale is nan"),
    ],
)
def test_lines_of_json_as_well(tmp_path, content, says):
    with pytest.raises(ConfigError, match=says):
        read(tmp_path / "t.jsonl", content.encode())


def test_a_quoted_cell_may_have_lines_and_what_follows_keeps_its_number(tmp_path):
    assert read(tmp_path / "t.csv", b'people,prompt\nAda,"in ""rain""\nor sun"\nBo,x\n') == [
        (2, "Ada", 'in "rain"\nor sun'),
        (4, "Bo", "x"),
    ]


# ── workbooks ────────────────────────────────────────────────────────────────────────────────────

_PARTS = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default '
    'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
    'ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.spreadsheetml.sheet.main+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
    'Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
    'Target="worksheets/sheet1.xml"/></Relationships>',
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://'
    'schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>SHEETS</sheets></workbook>',
    "xl/worksheets/sheet1.xml": '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    "<sheetData>ROWS</sheetData></worksheet>",
}


def workbook(file, rows, sheets=1):
    def cell(column, row, value):
        place = f'r="{"ABCDEFGH"[column]}{row}"'
        if isinstance(value, str):
            return f'<c {place} t="inlineStr"><is><t>{value}</t></is></c>'
        return f"<c {place}><v>{value}</v></c>"

    body = "".join(
        f'<row r="{at}">{"".join(cell(c, at, v) for c, v in enumerate(row) if v is not None)}</row>'
        for at, row in enumerate(rows, 1)
    )
    listed = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="r1"/>' for n in range(1, sheets + 1))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in _PARTS.items():
            made.writestr(name, text.replace("ROWS", body).replace("SHEETS", listed))
    return file


def test_a_workbook_asks_for_the_same_as_the_table_it_was_saved_from(tmp_path):
    rows = [["People", "styles", "count", "settings"], ["José", "chef", 2, "strength=0.5"], [], ["Bo", None, 1.0, None]]
    saved = "people,styles,count,settings\nJosé,chef,2,strength=0.5\n,,,\nBo,,1,\n"
    (tmp_path / "t.csv").write_text(saved, "utf-8")
    found, same = (
        sheet.read(file, sheet.Defaults()) for file in (workbook(tmp_path / "t.xlsx", rows), tmp_path / "t.csv")
    )
    assert found == same
    said = []
    sheet.read(workbook(tmp_path / "two.xlsx", rows, sheets=2), sheet.Defaults(), said.append)
    assert "'S1'" in said[0]


def test_workbooks_that_cannot_be_read_say_so(tmp_path, monkeypatch):
    (tmp_path / "t.xlsx").write_bytes(b"PK\3\4nope")
    with pytest.raises(ConfigError, match="cannot be read as a workbook"):
        sheet.read(tmp_path / "t.xlsx", sheet.Defaults())
    monkeypatch.setattr("facechain.jobs.table.LARGEST_BYTES", 3000)
    with pytest.raises(ConfigError, match="unpacks to"):
        sheet.read(workbook(tmp_path / "t.xlsx", [["x" * 5000]]), sheet.Defaults())


# ── folders ──────────────────────────────────────────────────────────────────────────────────────


def test_folders_of_the_system_are_nobody_and_a_consent_may_begin_with_a_byte_order_mark(tmp_path):
    for name in ("Dee", "@dee", "__MACOSX", "@eaDir", ".cache", "#recycle", "$RECYCLE.BIN", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dee" / "consent.toml").write_bytes(b'\xef\xbb\xbfby = "Dee"\r\npurpose = "test"\r\n')
    found = sheet.read(tmp_path, sheet.Defaults())
    assert [(order.people, order.consent_by) for order in found] == [(("@dee",), ""), (("Dee",), "Dee")]


# ── reports ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1+1"])
def test_no_cell_of_a_report_is_a_formula(tmp_path, name):
    numbers = dict.fromkeys(("line", "seed", "asked", "made", "passed", "kept", "missed"), 1)
    texts = dict.fromkeys(("people", "style", "engine", "why", "folder"), name)
    report.write(tmp_path / "r.csv", [Outcome(**numbers, **texts)])
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {row[column] for column in texts} == {f"'{name}"}
    assert row["made"] == "1"
