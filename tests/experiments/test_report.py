"""The report in a real browser, and the tables in LaTeX, where these programs are installed."""

import json
import shutil
import subprocess
import sys

import numpy
import pandas
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from experiments.analysis.cell import Cell, Table
from experiments.analysis.collection import collection, from_folders
from experiments.analysis.report.page import page
from experiments.analysis.report.tables import column_facets, orders_of, row_facets
from experiments.analysis.tables import tables
from tests.experiments.analysis.records import whole, without_run
from tests.paths import ROOT

RESULTS = ROOT / "results"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LIMIT = 4_000_000  # bytes
SECONDS = 60
HOSTILE = "<script>document.title='taken'</script>"
needs_browser = pytest.mark.skipif(not shutil.which("chromedriver"), reason="needs Chromium and its driver")


def some_runs(own: bool = True) -> dict[str, dict]:
    """Run name → record: two networks, ZeroQ and a method that no row is about, two seeds, a setting of any text."""
    found = {}
    for network in ("resnet18", "mobilenetv2"):
        for method in ("zeroq", "mine") if own else ("zeroq",):
            for width, activation in (("8", 8), ("4", 8), ("MP4", 8)):
                for seed in (0, 1):
                    run = f"fashion-{network},{method},w{width}a{activation},seed={seed}"
                    number = int(width.removeprefix("MP"))
                    sizes = {"size_mib": number / 8, "value": 80.0 + number + seed / 10}
                    bits = {"w_bits": width, "a_bits": activation}
                    settings = {"model.name": network}
                    record = whole(run, model=f"fashion/{network}", method=method, seed=seed, settings=settings, **bits)
                    found[run] = without_run(record | sizes)
    hostile = whole(
        "hostile", model="fashion/resnet18", method="zeroq", settings={"model.checkpoint": HOSTILE}, w_bits="8"
    )
    integer = {"placement": "integer", "settings": {"model.name": "resnet18", "placement": "integer"}}
    other = whole("integer", model="fashion/resnet18", method="zeroq", **integer)
    return found | {"hostile": without_run(hostile), "integer": without_run(other)}


@pytest.fixture(scope="module")
def small_page(tmp_path_factory):
    """The page of a few runs, as a file."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "figures").mkdir()
    for name in ("fashion-resnet18-bits", "fashion-mobilenetv2-loss"):
        Image.fromarray(numpy.full((300, 400, 3), 200, numpy.uint8)).save(folder / "figures" / f"{name}.png")
    runs = collection(some_runs())
    path = folder / "report.html"
    path.write_text(page(runs, tables(runs), folder / "figures", committed=True, own=folder))
    return path


@pytest.fixture(scope="module")
def committed_page(tmp_path_factory):
    """The page of what is committed, as the command writes it."""
    folder = tmp_path_factory.mktemp("committed")
    command = [sys.executable, "-m", "experiments.report", f"results={RESULTS}"]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "outputs" / "report.html"


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(SECONDS)
    yield driver
    driver.quit()


def shown(driver, path, width=1400):
    """The driver, once the page has drawn itself at a width."""
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(path.as_uri())
    waiting = WebDriverWait(driver, SECONDS)
    waiting.until(lambda driver: driver.execute_script("return 'ready' in document.documentElement.dataset"))
    return driver


@pytest.fixture
def browser(driver, small_page):
    return shown(driver, small_page)


def choose(browser, selector: str, text: str) -> None:
    Select(browser.find_element(By.CSS_SELECTOR, selector)).select_by_visible_text(text)


def chart_marks(browser) -> int:
    """How many points the chart shows."""
    return browser.execute_script("return document.querySelectorAll('#view .mark-symbol.role-mark path').length")


def visible_cells(browser, name: str, column: int) -> list[str]:
    """A column of a table, as it is shown."""
    rows = "[...document.querySelectorAll('#' + arguments[0] + ' tbody tr')]"
    script = f"return {rows}.map(row => row.cells[arguments[1]].textContent)"
    return browser.execute_script(script, name, column)


def headers(browser, name: str) -> list[str]:
    script = (
        "return [...document.querySelectorAll('#' + arguments[0] + ' th')].map(header => header.textContent.trim())"
    )
    return browser.execute_script(script, name)


@needs_browser
def test_filters_leave_rows_and_columns_of_what_was_chosen(browser):
    name = "top1-fashion-mnist"
    everything = visible_cells(browser, name, 0)
    assert set(everything) == {"fashion/mobilenetv2", "fashion/resnet18"}
    assert {"ZeroQ", "mine"} <= set(headers(browser, name))
    choose(browser, "#filters [name=network]", "fashion/mobilenetv2")
    assert set(visible_cells(browser, name, 0)) == {"fashion/mobilenetv2"}
    choose(browser, "#filters [name=bits]", "MP4/A8")
    assert visible_cells(browser, name, 1) == ["MP4/A8"]
    choose(browser, "#filters [name=method]", "mine")
    assert "ZeroQ" not in headers(browser, name)
    assert "mine" in headers(browser, name)
    # The paper's table of the other network has nothing left to show.
    assert not browser.find_element(By.ID, "paper-fashion-mnist-resnet18").is_displayed()
    assert "1 of" in browser.find_element(By.CSS_SELECTOR, f"#{name} .count").get_attribute("textContent")
    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    WebDriverWait(browser, SECONDS).until(lambda browser: visible_cells(browser, name, 0) == everything)
    browser.find_element(By.CSS_SELECTOR, "#filters [name=text]").send_keys("resnet18 MP4")
    WebDriverWait(browser, SECONDS).until(lambda browser: len(visible_cells(browser, name, 0)) == 1)
    assert browser.get_log("browser") == []


@needs_browser
def test_tables_sort_by_numbers_and_by_bits(browser):
    name = "top1-fashion-mnist"
    browser.execute_script("document.getElementById(arguments[0]).open = true", name)
    browser.find_elements(By.CSS_SELECTOR, f"#{name} th")[headers(browser, name).index("Bits")].click()
    bits = visible_cells(browser, name, 1)
    assert list(dict.fromkeys(bits)) == ["W8/A8", "W4/A8", "MP4/A8"]


@needs_browser
def test_a_number_shows_the_runs_behind_it(browser):
    browser.execute_script("document.getElementById('top1-fashion-mnist').open = true")
    cells = browser.find_elements(By.CSS_SELECTOR, "#top1-fashion-mnist td button")
    number = next(cell for cell in cells if cell.text.endswith("(2)"))
    number.click()
    box = browser.find_element(By.ID, "runs")
    assert box.is_displayed()
    names = [row.find_elements(By.TAG_NAME, "td")[0].text for row in box.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert len(names) == 2
    assert set(names) <= set(some_runs())
    assert "experiments.collect run=NAME to=FOLDER" in box.text
    assert len(browser.find_elements(By.CSS_SELECTOR, "sup")) == 0


@needs_browser
def test_network_placement_and_legend_redraw_the_chart(browser):
    network, placement, six = "#choices [name=network]", "#choices [name=placement]", 2 * 3  # methods, settings of bits
    for name in ("fashion/resnet18", "fashion/mobilenetv2"):
        choose(browser, network, name)
        assert chart_marks(browser) == six
    choose(browser, placement, "integer")
    assert chart_marks(browser) == 0
    assert "No runs of this network" in browser.find_element(By.ID, "view").text
    choose(browser, network, "fashion/resnet18")
    assert chart_marks(browser) == 1
    choose(browser, placement, "layer_inputs")
    text = browser.find_element(By.ID, "view").text
    assert all(word in text for word in ("FP32", "92.00", "W8/A8", "MP4/A8", "ZeroQ", "mine", "Top-1 accuracy"))
    browser.find_elements(By.CSS_SELECTOR, "#view .role-legend-symbol path")[0].click()
    assert chart_marks(browser) == six // 2
    assert browser.get_log("browser") == []


@needs_browser
def test_a_point_tells_its_bits_score_size_and_seeds(browser):
    choose(browser, "#choices [name=network]", "fashion/resnet18")
    point = browser.find_elements(By.CSS_SELECTOR, "#view .mark-symbol.role-mark path")[0]
    ActionChains(browser).move_to_element(point).perform()
    tooltip = browser.find_element(By.ID, "vg-tooltip-element")
    WebDriverWait(browser, SECONDS).until(lambda _: tooltip.is_displayed())
    assert all(word in tooltip.text for word in ("/A8", " ± 0.07", "MiB", "0, 1"))


@needs_browser
def test_text_of_records_is_shown_as_text(browser):
    assert browser.title == "ZeroQ: results"
    assert HOSTILE in browser.execute_script("return document.querySelector('main').textContent")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1400, 400])
def test_the_committed_page_draws_everything_without_a_network(driver, committed_page, width):
    browser = shown(driver, committed_page, width)
    assert committed_page.stat().st_size < LIMIT
    assert chart_marks(browser) > 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    expected = tables(from_folders(results=RESULTS))
    assert browser.execute_script("return document.querySelectorAll('details.table table').length") == len(expected)
    images = "return document.querySelectorAll('.pictures img').length"
    assert browser.execute_script(images) == len(list((RESULTS / "figures").glob("*.png")))
    browser.execute_script("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.find_element(By.CSS_SELECTOR, ".pictures img").is_displayed()
    decoded = """
        const done = arguments[0], images = [...document.images];
        Promise.all(images.map(image => { image.loading = 'eager'; return image.decode(); }))
            .then(() => done(images.filter(image => !image.naturalWidth).length), error => done(String(error)));
    """
    assert browser.execute_async_script(decoded) == 0
    requests = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [name for name in browser.execute_script(requests) if not name.startswith(("data:", "blob:"))] == []
    assert browser.get_log("browser") == []


def test_a_page_of_ones_own_runs_stands_in_their_folder(tmp_path):
    for run, record in some_runs(own=False).items():
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "record.json").write_text(json.dumps(record))
    command = [sys.executable, "-m", "experiments.report", f"outputs={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.html").read_text()
    assert f"{tmp_path}/runs/NAME" in text
    assert "experiments.collect" not in text
    assert HOSTILE not in text
    assert 'src="http' not in text


def test_one_run_of_changed_settings_makes_a_page_without_a_chart(tmp_path):
    runs = collection({"hostile": some_runs()["hostile"]})
    text = page(runs, tables(runs), tmp_path / "figures")
    assert "there is no chart" in text
    assert HOSTILE not in text


def test_what_rows_and_columns_are_about():
    family = {"Method": "ZeroQ", "W-bit": "MP4", "A-bit": "8"}
    assert row_facets(family, "fashion/resnet18") == {
        "method": "ZeroQ",
        "network": "fashion/resnet18",
        "bits": "MP4/A8",
    }
    assert row_facets(family | {"Method": "Baseline", "W-bit": "32"}, "a/b") == {"network": "a/b"}
    assert column_facets("W4/A8 MiB", set()) == {"bits": "W4/A8"}
    assert column_facets("Distilled", {"ZeroQ"}) == {"method": "ZeroQ"}
    assert column_facets("Network", {"ZeroQ"}) == {}
    assert orders_of(["W4/A8", "W8/A8", "–", "MP4/A8"]) == [1, 0, "", 2]
    assert orders_of(["10.25", "9.50 ± 0.71 (2)", "–"]) == [10.25, 9.5, ""]
    assert orders_of(["b/one", "2/two"]) == ["", ""]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs LaTeX")
def test_tables_compile_in_latex(tmp_path):
    rows = [("b/one", Cell("9.50 ± 0.71 (2)", ["run,a", "run b"]), "W8"), ("c/none", "–", "W4")]
    frame = pandas.DataFrame(rows, columns=["Network", "Top-1 (%)", "Bits"], dtype=object)
    found = [Table("Two & a half", frame, ("<so>",)), *tables(from_folders(results=RESULTS)).values()]
    lines = [r"\documentclass{article}\usepackage{booktabs}\begin{document}"]
    for index, each in enumerate(found):
        each.write(tmp_path / str(index))
        lines.append(rf"{{\tiny\input{{{index}}}}}\clearpage")
    (tmp_path / "all.tex").write_text("\n".join([*lines, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
