// tables: sort by a header, filter by words
(() => {
  "use strict";
  const key = (row, column) => {
    const cell = row.cells[column], value = cell.dataset.value ?? cell.textContent.trim();
    return cell.classList.contains("num") ? (value === "" ? NaN : Number(value)) : value.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a < b ? -1 : a > b ? 1 : 0;
    if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
    return Number.isNaN(b) ? -1 : a - b;
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
      const header = button.closest("th"), column = header.cellIndex;
      const descending = header.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      // rows without a value stay last in both directions
      rows.sort(([a], [b]) => (descending && !Number.isNaN(a) && !Number.isNaN(b) ? compare(b, a) : compare(a, b)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  });
  document.querySelectorAll("input[data-filters]").forEach((input) => {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const count = input.closest(".tools").querySelector("output");
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.dataset.words ?? row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown} of ${rows.length} shown`;
    };
    input.addEventListener("input", apply);
    apply();
  });
})();
