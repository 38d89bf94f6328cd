(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const twins = read("twins");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  // ---- figures: stored with light colours, recoloured for a dark page
  const recolor = (value) => {
    if (typeof value === "string") return twins[value] ?? value;
    if (Array.isArray(value)) return value.map(recolor);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, recolor(v)]));
    return value;
  };
  const narrow = () => document.documentElement.clientWidth < 620;
  const themed = (name) => {
    const copy = structuredClone(figures[name]);
    if (narrow() && copy.layout.margin) copy.layout.margin.l = Math.min(copy.layout.margin.l ?? 60, 96);
    return dark.matches && !printing ? recolor(copy) : copy;
  };
  const plots = [...document.querySelectorAll(".plot")];
  const draw = (node) => {
    const { data, layout } = themed(node.dataset.figure);
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    if (printing) Object.assign(layout, { autosize: false, width: node.clientWidth, height: node.clientHeight });
    return Plotly.react(node, data, layout, options).then(() => { node.dataset.drawn = "true"; });
  };
  const drawAll = () => plots.forEach(draw);

  const canvas = document.getElementById("viewer");
  const scenes = read("scenes");
  const look = read("look");
  const viewer = structureViewer(canvas, scenes, look);

  // ---- one chosen candidate: table row, front point, structure and card agree
  const front = document.querySelector('[data-figure="pareto"]');
  const choose = (id) => {
    const card = document.getElementById(`card-${id}`);
    if (!scenes[id] || !card) return;
    document.querySelectorAll("[data-candidate]").forEach((n) => n.classList.toggle("chosen", n.dataset.candidate === id));
    document.getElementById("chosen-name").innerHTML = card.querySelector("h3").innerHTML;
    document.getElementById("chosen-tags").innerHTML = card.querySelector(".tags").innerHTML;
    document.getElementById("chosen-facts").innerHTML = card.querySelector(".facts").innerHTML;
    const symbols = [...new Set(scenes[id].symbols)];
    document.getElementById("chosen-legend").innerHTML = symbols.map((s) => `<li><i style="background:${scenes[id].colors[s]}"></i>${s}</li>`).join("");
    canvas.setAttribute("aria-label", `unit cell of ${card.dataset.formula}; arrow keys turn it`);
    viewer.show(id);
    mark(id);
  };
  const mark = (id) => {
    if (!front?.data) return;
    const ring = front.data.findIndex((trace) => trace.name === "chosen");
    for (const trace of front.data) {
      const at = (trace.customdata ?? []).indexOf(id);
      if (at >= 0 && trace.name !== "chosen") {
        Plotly.restyle(front, { x: [[trace.x[at]]], y: [[trace.y[at]]] }, [ring]);
        return;
      }
    }
  };
  document.addEventListener("click", (event) => {
    const holder = event.target.closest("[data-candidate]");
    if (holder && !holder.closest("canvas")) choose(holder.dataset.candidate);
  });

  document.getElementById("save-cif").addEventListener("click", () => {
    const id = canvas.dataset.candidate, link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([scenes[id].cif], { type: "chemical/x-cif" }));
    link.download = `${document.getElementById(`card-${id}`).dataset.formula}_${id}.cif`;
    link.click();
    URL.revokeObjectURL(link.href);
  });

  // ---- on a phone the long sections are closed until their heading is touched, or the menu leads there
  const folding = narrow() ? ["trust", "members", "data", "candidates", "cards", "reproduce"] : [];
  const fold = (section, closed) => {
    section.classList.toggle("folded", closed);
    section.querySelector("h2").setAttribute("aria-expanded", String(!closed));
    if (!closed) section.querySelectorAll(".plot.js-plotly-plot").forEach((node) => Plotly.Plots.resize(node));
  };
  for (const section of folding.map((id) => document.getElementById(id)).filter(Boolean)) {
    const heading = section.querySelector("h2");
    heading.setAttribute("role", "button");
    heading.tabIndex = 0;
    heading.addEventListener("click", () => fold(section, !section.classList.contains("folded")));
    heading.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); heading.click(); } });
    document.querySelectorAll(`a[href="#${section.id}"]`).forEach((a) => a.addEventListener("click", () => fold(section, false)));
    fold(section, location.hash !== `#${section.id}`);
  }

  // ---- navigation, theme, print
  const links = [...document.querySelectorAll(".bar nav a")];
  const watcher = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => {
    links.forEach((a) => a.setAttribute("aria-current", String(a.hash === `#${e.target.id}`)));
  }), { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main section[id]").forEach((section) => watcher.observe(section));
  const repaint = () => { drawAll(); viewer?.paint(); };
  dark.addEventListener("change", repaint);
  // figures keep the size they were drawn with: draw them for the paper, then for the window again
  const print = (on) => {
    printing = on;
    document.documentElement.classList.toggle("paper", on);
    repaint();
    if (!on) setTimeout(() => plots.forEach((node) => Plotly.Plots.resize(node)), 0); // until then the paper's layout holds
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  const first = document.querySelector("tr[data-candidate]")?.dataset.candidate;
  const drawLater = (queue) => {
    const node = queue.shift();
    if (!node) { document.documentElement.dataset.ready = "true"; return; }
    draw(node).then(() => {
      if (node === front) {
        front.on("plotly_click", (event) => { const id = event.points[0].customdata; if (id) choose(id); });
        if (first) choose(first);
      }
      setTimeout(drawLater, 0, queue);
    });
  };
  drawLater(front ? [front, ...plots.filter((node) => node !== front)] : plots);
})();
