"""The report in a real browser, and the tables in LaTeX, where these programs are installed."""

import json
import shutil
import subprocess

import pandas
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from experiments.analysis.cell import Cell, Table
from experiments.analysis.collection import from_folders
from experiments.analysis.tables import tables
from experiments.report import page
from tests.paths import ROOT

RESULTS = ROOT / "results"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1400,1000"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
needs = pytest.mark.skipif


def table() -> Table:
    rows = [
        ("b/one", Cell("9.50 ± 0.71 (2)", ["run,a", "run b"]), "W8"),
        ("a/two", Cell("10.25", ["run,c"]), "MP4"),
        ("c/none", "–", "W4"),
    ]
    return Table(
        "Two & a half", pandas.DataFrame(rows, columns=["Network", "Top-1 (%)", "Bits"], dtype=object), ("<so>",)
    )


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options, service)
    yield driver
    driver.quit()


@needs(not shutil.which("chromedriver"), reason="needs Chromium and its driver")
def test_tables_sort_and_numbers_lead_to_their_records(tmp_path, browser):
    for run in ("run,a", "run b", "run,c"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "record.json").write_text(json.dumps({"name": run}))
    path = tmp_path / "report.html"
    path.write_text(page({"t": table()}, tmp_path / "figures", 3, []))
    browser.get(path.as_uri())

    def column(index: int) -> list[str]:
        return [
            row.find_elements(By.TAG_NAME, "td")[index].text
            for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")
        ]

    network, score, bits = browser.find_elements(By.CSS_SELECTOR, "th button")
    assert column(0) == ["b/one", "a/two", "c/none"]
    network.click()
    assert column(0) == ["a/two", "b/one", "c/none"]
    network.click()
    assert column(0) == ["c/none", "b/one", "a/two"]
    score.click()
    assert column(0) == ["b/one", "a/two", "c/none"]  # 9.5 before 10.25, and what has no number last
    score.click()
    assert column(0) == ["a/two", "b/one", "c/none"]
    bits.click()
    assert column(2) == ["MP4", "W4", "W8"]
    assert browser.find_element(By.CSS_SELECTOR, ".notes p").text == "<so>"
    links = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "td a")]
    found = set()
    for link in links:
        browser.get(link)
        found.add(json.loads(browser.find_element(By.TAG_NAME, "body").text)["name"])
    assert found == {"run,a", "run b", "run,c"}


@needs(not shutil.which("chromedriver"), reason="needs Chromium and its driver")
def test_the_committed_results_report_shows_everything_without_a_network(browser, tmp_path):
    collection = from_folders(results=RESULTS)
    models = sorted({record["model"] for record in collection.records})
    path = tmp_path / "report.html"
    path.write_text(page(tables(collection), RESULTS / "figures", len(collection.records), models))
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    broken = "return [...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.execute_script("return document.images.length") == len(list((RESULTS / "figures").glob("*.png")))
    assert browser.execute_script("return document.querySelectorAll('table').length") == len(tables(collection))
    outside = "return performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length"
    assert browser.execute_script(outside) == 0


@needs(not shutil.which("pdflatex"), reason="needs LaTeX")
def test_tables_compile_in_latex(tmp_path):
    found = [table(), *tables(from_folders(results=RESULTS)).values()]
    lines = [r"\documentclass{article}\usepackage{booktabs}\begin{document}"]
    for index, each in enumerate(found):
        each.write(tmp_path / str(index))
        lines.append(rf"{{\tiny\input{{{index}}}}}\clearpage")
    (tmp_path / "all.tex").write_text("\n".join([*lines, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
