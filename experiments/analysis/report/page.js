const one = selector => document.querySelector(selector);
const all = selector => [...document.querySelectorAll(selector)];
const data = id => JSON.parse(one(id).textContent);

// The libraries stand in the page as gzip in base64.
async function library(name) {
  const bytes = Uint8Array.from(atob(one(`#${name}-source`).textContent), letter => letter.charCodeAt(0));
  const source = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  return import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
}

// Tables: hidden is each row and column that is about something else than what was chosen, and each row without a
// number in the columns that are left for it.
const { default: DataTable } = await library("datatables");
const form = one("#filters");
const chosen = () => [...form.querySelectorAll("select")].filter(select => select.value);
const fits = element => chosen().every(({ name, value }) => (element.dataset[name] ?? value) === value);
const quiet = { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null };
const tables = all("details.table").map(details => {
  const element = details.querySelector("table");
  const headers = [...element.tHead.rows[0].cells], rows = [...element.tBodies[0].rows];
  const texts = rows.map(row => [...row.cells].map(cell => cell.textContent));
  const table = new DataTable(element, { paging: false, autoWidth: false, layout: quiet, order: [] });
  return { details, table, headers, rows, texts };
});

function filter() {
  for (const { details, table, headers, rows, texts } of tables) {
    const shown = headers.map(fits);
    const columns = [...headers.keys()].filter(column =>
      shown[column] && chosen().some(({ name }) => name in headers[column].dataset));
    headers.forEach((_, column) => table.column(column).visible(shown[column], false));
    table.search.fixed("chosen", (_text, _cells, row) =>
      fits(rows[row]) && (!columns.length || columns.some(column => texts[row][column] !== "–")));
    table.search(form.elements.text.value).draw();
    const count = table.rows({ search: "applied" }).count();
    details.hidden = count === 0;
    details.querySelector(".count").textContent = `${count === rows.length ? "" : `${count} of `}${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
  }
  for (const group of all(".group")) group.hidden = !group.querySelector("details:not([hidden])");
}
form.addEventListener("change", filter);
form.elements.text.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", event => event.preventDefault());
filter();

// The runs behind a number.
const runs = data("#runs-data"), box = one("#runs");
document.addEventListener("click", event => {
  const button = event.target.closest("[data-runs]");
  if (!button) return;
  const behind = button.dataset.runs.split(" ").map(number => runs[number]);
  box.querySelector("h4").textContent = `${behind.length === 1 ? "The run" : `${behind.length} runs`} behind ${button.textContent}`;
  box.querySelector("tbody").replaceChildren(...behind.map(texts => {
    const row = document.createElement("tr");
    for (const text of texts) row.insertCell().textContent = text;
    return row;
  }));
  box.showPopover();
});

// The chart follows the page's colours by itself.
const chart = data("#chart-data");
if (chart) {
  await library("vega");
  // Errors alone (1): a network without runs of a placement is nothing to warn of.
  await vegaEmbed("#view", chart, { actions: false, renderer: "svg", logLevel: 1 });
}
document.documentElement.dataset.ready = "";
