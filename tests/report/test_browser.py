"""The page in a real browser: nothing fails, nothing is fetched, what is clicked answers."""

import pandas as pd
import pytest
from pymatgen.core import Structure

from matscout.crystal import Crystal

CHOSEN = "document.getElementById('viewer').dataset.candidate"


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    return browser


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_opens_without_complaint_or_request(browser, page, width, dark):
    browser.open(page, width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_every_figure_shows_data(opened):
    counts = opened.run(
        "Object.fromEntries([...document.querySelectorAll('.plot')].map((p) => [p.dataset.figure,"
        "p.querySelectorAll('.points path, .js-line, .errorbar path').length]))"
    )
    assert len(counts) >= 12
    assert min(counts.values()) > 0, counts


def test_every_stored_figure_is_on_the_page(opened):
    stored = opened.run("Object.keys(JSON.parse(document.getElementById('figures').textContent)).sort()")
    shown = opened.run("[...document.querySelectorAll('.plot')].map((p) => p.dataset.figure).sort()")
    assert stored == shown


def test_click_on_the_front_shows_that_structure(opened):
    opened.run("document.querySelector('#plot-pareto').scrollIntoView({block: 'center', behavior: 'instant'})")
    target = opened.run("""(() => {
      const plot = document.querySelector('#plot-pareto');
      const trace = plot.data.findIndex((t) => t.name === 'Pareto front');
      const point = plot._fullData[trace].customdata.length - 1;
      const box = plot.getBoundingClientRect(), layout = plot._fullLayout;
      const x = layout.xaxis.l2p(plot._fullData[trace].x[point]) + layout.xaxis._offset + box.left;
      const y = layout.yaxis.l2p(plot._fullData[trace].y[point]) + layout.yaxis._offset + box.top;
      return {id: plot._fullData[trace].customdata[point], x, y};
    })()""")
    assert opened.run(CHOSEN) != target["id"]
    opened.click(target["x"], target["y"])
    opened.wait(f"{CHOSEN} === '{target['id']}'")
    assert opened.run("Number(document.getElementById('viewer').dataset.atoms)") > 0
    card = f"document.getElementById('card-{target['id']}')"
    assert opened.run("document.getElementById('chosen-name').textContent") == opened.run(
        f"{card}.querySelector('h3').textContent"
    )
    assert opened.run(f"document.querySelector('tr[data-candidate={target['id']}]').classList.contains('chosen')")


def test_click_on_a_row_shows_that_structure_and_rings_its_point(opened):
    row = "document.querySelectorAll('tr[data-candidate]')[5]"
    wanted = opened.run(f"{row}.dataset.candidate")
    opened.run(f"{row}.querySelector('button.pick').click()")
    assert opened.run(CHOSEN) == wanted
    drawn = opened.run("document.querySelector('#plot-pareto').data.find((t) => t.name === 'chosen').x[0]")
    gap = opened.run(f"Number({row}.cells[2].dataset.value)")
    assert drawn == pytest.approx(gap, rel=1e-4)


def test_structure_turns_with_mouse_and_keys(opened):
    opened.run("document.getElementById('viewer').scrollIntoView({block: 'center', behavior: 'instant'})")
    pictures = [opened.run("document.getElementById('viewer').toDataURL()")]
    x, y = opened.run(
        "(() => {const b = document.getElementById('viewer').getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + b.height / 2]})()"
    )
    opened.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 40, y=y + 20, button="left")
    opened.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 40, y=y + 20, button="left", clickCount=1)
    pictures.append(opened.run("document.getElementById('viewer').toDataURL()"))
    opened.run("document.getElementById('viewer').focus()")
    opened.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft")
    pictures.append(opened.run("document.getElementById('viewer').toDataURL()"))
    assert len(set(pictures)) == 3


def test_saves_the_chosen_structure_as_cif(opened, fake_data, tmp_path):
    opened.run("document.querySelectorAll('tr[data-candidate] button.pick')[3].click()")
    opened.run(
        "window.create = URL.createObjectURL; URL.createObjectURL = (b) => { window.saved = b; return create(b); }"
    )
    opened.run("HTMLAnchorElement.prototype.click = function () { window.savedName = this.download; }")
    opened.run("document.getElementById('save-cif').click()")
    saved = Structure.from_str(opened.run("window.saved.text()"), fmt="cif")
    row = pd.read_parquet(fake_data / "screening" / "ranked.parquet").set_index("candidate_id").loc[opened.run(CHOSEN)]
    assert saved.composition.reduced_formula == row["formula"]
    assert saved.volume / len(saved) == pytest.approx(Crystal.from_row(row).volume / row["n_atoms"], rel=1e-4)
    assert opened.run("window.savedName") == f"{row['formula']}_{row.name}.cif"


def column(browser, table, index):
    cells = f"[...document.querySelectorAll('#table-{table} tbody tr')].map((r) => r.cells[{index}].dataset.value)"
    return browser.run(cells)


def test_tables_sort_by_value_up_and_down(opened):
    head = "document.querySelectorAll('#table-shortlist thead button')[3].click()"
    before = [float(v) for v in column(opened, "shortlist", 3)]
    opened.run(head)
    assert [float(v) for v in column(opened, "shortlist", 3)] == sorted(before)
    opened.run(head)
    assert [float(v) for v in column(opened, "shortlist", 3)] == sorted(before, reverse=True)
    assert opened.run("document.querySelectorAll('#table-shortlist th')[3].getAttribute('aria-sort')") == "descending"


def test_missing_values_sort_last_both_ways(opened):
    for _ in range(2):
        opened.run("document.querySelectorAll('#table-members thead button')[2].click()")
        values = column(opened, "members", 2)
        n_missing = values.count("")
        assert n_missing == 4
        assert values[-n_missing:] == [""] * n_missing


def test_filter_hides_rows_and_says_how_many(opened):
    opened.run("""(() => {const box = document.getElementById('filter-shortlist'); box.value = 'prototype';
      box.dispatchEvent(new Event('input'))})()""")
    shown = opened.run(
        "[...document.querySelectorAll('#table-shortlist tbody tr')].filter((r) => !r.hidden).map((r) => r.textContent)"
    )
    assert shown
    assert all("prototype" in text for text in shown)
    assert opened.run("document.querySelector('.tools output').textContent").startswith(f"{len(shown)} of ")


def test_elements_are_filtered_as_elements_and_not_as_letters(opened):
    words = "[...document.querySelectorAll('#table-shortlist tbody tr')].map((r) => [r.dataset.elements, r.hidden])"
    symbol = opened.run(words)[0][0].split()[0]
    for text, wanted in ((symbol, True), (f"-{symbol}", False)):
        opened.run(f"""(() => {{const box = document.getElementById('filter-shortlist'); box.value = '{text}';
          box.dispatchEvent(new Event('input'))}})()""")
        shown = [elements.split() for elements, hidden in opened.run(words) if not hidden]
        assert all((symbol in elements) is wanted for elements in shown), text
        assert wanted is False or shown


def test_the_batch_is_saved_as_csv_with_plain_numbers(opened):
    opened.run("""(() => {window.saved = []; const make = URL.createObjectURL;
      URL.createObjectURL = (blob) => {window.saved.push(blob); return make(blob)};
      document.querySelector('[data-csv="table-together"]').click()})()""")
    text = opened.run("window.saved[0].text()")
    head, *rows = text.split("\r\n")
    assert head.startswith('"order","formula"')
    assert len(rows) == opened.run("document.querySelectorAll('#table-together tbody tr').length")
    assert rows[0].startswith('"1",')


def test_a_desk_s_screen_shows_all_columns_of_every_table(browser, page):
    browser.open(page, width=1440, height=900)
    cut = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
    assert browser.run(f"{cut}.map((box) => box.getAttribute('aria-label'))") == []


def test_the_shortlist_is_in_the_order_of_its_ranks(opened):
    ranks = opened.run(
        "[...document.querySelectorAll('#table-shortlist tbody tr')].map((row) => +row.cells[0].dataset.value)"
    )
    assert len(ranks) > 20
    assert ranks == sorted(ranks)


def test_a_phone_s_page_is_short_until_its_sections_are_opened(browser, page):
    browser.open(page, width=390, height=844)
    assert browser.run("document.documentElement.scrollHeight") < 12000
    assert browser.run("document.documentElement.scrollWidth") <= 390
    height = "document.getElementById('trust').getBoundingClientRect().height"
    closed = browser.run(height)
    browser.run("document.querySelector('#trust h2').click()")
    assert browser.run(height) > 4 * closed
    assert browser.run("document.querySelector('#trust h2').getAttribute('aria-expanded')") == "true"


def test_dark_page_is_dark_and_its_figures_too(browser, page):
    colors = {}
    for dark in (False, True):
        browser.open(page, dark=dark)
        colors[dark] = (
            browser.run("getComputedStyle(document.body).backgroundColor"),
            browser.run("getComputedStyle(document.querySelector('#plot-pareto .xtitle')).fill"),
            browser.run("getComputedStyle(document.querySelector('.ptable .on')).backgroundColor"),
        )
    assert all(light != dark for light, dark in zip(colors[False], colors[True], strict=True))


def test_prints_figures_of_the_papers_size_in_light_colors_and_turns_back(browser, page):
    browser.open(page, dark=True)
    state = (
        "(() => {const p = document.querySelector('#plot-pareto'); return ["
        "Number(p.querySelector('.main-svg').getAttribute('width')) - p.clientWidth,"
        "getComputedStyle(p.querySelector('.xtitle')).fill]})()"
    )
    before = browser.run(state)
    browser.run("addEventListener('afterprint', () => { window.printed = true })")
    browser.run(f"addEventListener('beforeprint', () => {{ window.onPaper = {state} }})")
    assert browser.pdf().startswith(b"%PDF")
    browser.wait("window.printed")
    misfit, color = browser.run("window.onPaper")
    assert misfit == pytest.approx(0, abs=1)
    assert color != before[1]
    browser.wait(f"Math.abs({state}[0]) <= 1")
    assert browser.run(state)[1] == before[1]
    assert browser.complaints() == []
