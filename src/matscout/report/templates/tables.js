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
  // "Cu" or "-Pb" asks for elements, as they are written; any other word is searched in the text
  const asks = (row, word) => {
    const [, not, symbol] = word.match(/^(-?)([A-Z][a-z]?)$/) ?? [];
    if (!symbol || row.dataset.elements === undefined) return (row.dataset.words ?? row.textContent.toLowerCase()).includes(word.toLowerCase());
    return row.dataset.elements.split(" ").includes(symbol) !== (not === "-");
  };
  document.querySelectorAll("input[data-filters]").forEach((input) => {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const tools = input.closest(".tools"), count = tools.querySelector("output"), all = tools.querySelector("[data-repeats]");
    const apply = () => {
      const words = input.value.split(/[\s,]+/).filter(Boolean);
      const most = words.length || document.documentElement.clientWidth >= 620 ? Infinity : 20; // a phone's first look
      let shown = 0;
      for (const row of rows) {
        row.hidden = shown >= most || !words.every((word) => asks(row, word)) || ("repeat" in row.dataset && !all?.checked);
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown} of ${rows.length} shown`;
    };
    for (const control of [input, all]) control?.addEventListener("input", apply);
    apply();
  });
  const quoted = (text) => `"${(/^[=+@]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  document.querySelectorAll("button[data-csv]").forEach((button) => button.addEventListener("click", () => {
    const table = document.getElementById(button.dataset.csv), link = document.createElement("a");
    const heads = [...table.tHead.rows[0].cells].map((th) => [th.querySelector("button").textContent, th.querySelector(".unit")?.textContent].filter(Boolean).join(", "));
    const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.textContent.trim()));
    const text = [heads, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = button.dataset.name;
    link.click();
    URL.revokeObjectURL(link.href);
  }));
})();
