// the structure viewer: an orthographic ball-and-stick picture that turns
function structureViewer(canvas, scenes, look) {
  "use strict";
  const context = canvas.getContext("2d");
  let scene = null, turn = -0.44, tilt = -1.26, zoom = 1;
  const rotate = ([x, y, z]) => {
    const [c, s] = [Math.cos(turn), Math.sin(turn)], [ct, st] = [Math.cos(tilt), Math.sin(tilt)];
    const u = c * x - s * y, v = s * x + c * y;
    return [u, ct * v - st * z, st * v + ct * z];
  };
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const paint = () => {
    if (!scene) return;
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    canvas.width = Math.round(box.width * ratio); canvas.height = Math.round(box.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, box.width, box.height);
    const atoms = scene.positions.map(rotate), corners = scene.corners.map(rotate);
    const reach = Math.max(...scene.corners.map((p) => Math.hypot(...p)), ...scene.positions.map((p) => Math.hypot(...p))) + 0.6;
    const scale = zoom * Math.min(box.width, box.height) / 2 / reach;
    const at = (p) => [box.width / 2 + p[0] * scale, box.height / 2 - p[1] * scale];
    const radius = (i) => 0.38 * (look.radii[scene.symbols[i]] ?? 1.5) * scale;
    const stroke = (p, q, color, width) => {
      context.strokeStyle = color; context.lineWidth = width; context.lineCap = "round";
      context.beginPath(); context.moveTo(...at(p)); context.lineTo(...at(q)); context.stroke();
    };
    const items = scene.edges.map(([i, j]) => [Math.min(corners[i][2], corners[j][2]), () => stroke(corners[i], corners[j], style("--faint"), 1)]);
    for (const [i, j] of scene.bonds) {
      const middle = atoms[i].map((x, k) => (x + atoms[j][k]) / 2);
      items.push([middle[2], () => {
        stroke(atoms[i], middle, scene.colors[scene.symbols[i]], Math.max(2, 0.16 * scale));
        stroke(middle, atoms[j], scene.colors[scene.symbols[j]], Math.max(2, 0.16 * scale));
      }]);
    }
    atoms.forEach((p, i) => items.push([p[2] + 0.01, () => {
      const [x, y] = at(p), r = radius(i), color = scene.colors[scene.symbols[i]];
      const shade = context.createRadialGradient(x - r * 0.35, y - r * 0.35, r * 0.1, x, y, r);
      shade.addColorStop(0, "#ffffff"); shade.addColorStop(0.35, color); shade.addColorStop(1, color);
      context.fillStyle = shade; context.strokeStyle = "rgb(0 0 0 / .5)"; context.lineWidth = 0.8;
      context.beginPath(); context.arc(x, y, r, 0, 2 * Math.PI); context.fill(); context.stroke();
    }]));
    items.sort((a, b) => a[0] - b[0]).forEach(([, act]) => act());
    canvas.dataset.atoms = scene.symbols.length;
  };
  let grip = null;
  canvas.addEventListener("pointerdown", (e) => { grip = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointermove", (e) => {
    if (!grip) return;
    turn += (e.clientX - grip[0]) * 0.01; tilt += (e.clientY - grip[1]) * 0.01;
    grip = [e.clientX, e.clientY]; paint();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { grip = null; });
  canvas.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
    if (step) { turn += step[0]; tilt += step[1]; e.preventDefault(); paint(); }
  });
  document.querySelectorAll("[data-zoom]").forEach((b) => b.addEventListener("click", () => { zoom *= Number(b.dataset.zoom); paint(); }));
  new ResizeObserver(paint).observe(canvas);
  return { paint, show: (id) => { scene = scenes[id]; zoom = 1; canvas.dataset.candidate = id; paint(); } };
}
