// The page of `annotate_paths`: the mean face, the paths over it, and what can be done to them.
// `settings` are those of page.py.
const find = id => document.getElementById(id);
const settings = JSON.parse(find("settings").textContent);
const canvas = find("lines"), brush = canvas.getContext("2d");
const style = getComputedStyle(document.documentElement);
const color = name => style.getPropertyValue("--" + name).trim();
let view = {yaw: settings.yaw, pitch: settings.pitch};  // of the picture that is shown
let paths = [], chosen = settings.path, wanted = null, turning = false, held = null, asked = 0;

// Asking the command. It answers one question after another, in order.
let last = Promise.resolve();
function ask(what, at = view) {
  const body = JSON.stringify({...what, ...at, mirror: find("mirror").checked});
  last = last.then(async () => {
    try {
      const headers = {"Content-Type": "application/json"};
      const reply = await fetch("act", {method: "POST", headers, body});
      return await reply.json();
    } catch {
      return {message: "The command has ended. Start it again to go on.", is_bad: true};
    }
  });
  return last;
}

async function act(what) {
  const number = ++asked, from = view, reply = await ask(what);
  if (from === view && number === asked) show(reply);
  else tell(reply);  // a later answer tells what has come of this, too
}

function tell(reply) {
  find("note").textContent = reply.message || "";
  find("note").className = reply.is_bad ? "bad" : "";
  if (reply.saved) find("saved").textContent = reply.saved;
}

function show(reply) {
  if (reply.paths) paths = reply.paths;
  tell(reply);
  draw();
}

async function turn(yaw, pitch) {
  find("yaw").value = yaw;
  find("pitch").value = pitch;
  for (const [id, value] of [["yaw", yaw], ["pitch", pitch]])
    find(id).nextElementSibling.value = value + "°";
  wanted = {yaw, pitch};
  if (turning) return;
  turning = true;
  while (wanted) {
    const to = wanted, picture = new Image();
    wanted = null;
    picture.src = "face.png?yaw=" + to.yaw + "&pitch=" + to.pitch;
    const [reply] = await Promise.all([ask({act: "look"}, to), picture.decode().catch(() => {})]);
    find("face").src = picture.src;
    view = to;
    show(reply);
  }
  turning = false;
}

// Drawing. Replies are in pixels of the picture, whatever its size on the page.
function scale() { return canvas.clientWidth / settings.size; }

function strokes(line, seen) {
  const dots = line.map(([x, y]) => [x * scale(), y * scale()]);
  brush.beginPath();
  for (let i = 1; i < dots.length; i++) {
    if (Boolean(line[i - 1][2] && line[i][2]) !== seen) continue;
    brush.moveTo(...dots[i - 1]);
    brush.lineTo(...dots[i]);
  }
  brush.setLineDash(seen ? [] : [2, 5]);
  brush.globalAlpha = seen ? 1 : 0.4;
  brush.stroke();
  brush.setLineDash([]);
  brush.globalAlpha = 1;
}

function dot(x, y, radius, fill, edge) {
  brush.beginPath();
  brush.arc(x * scale(), y * scale(), radius, 0, 7);
  brush.fillStyle = fill;
  brush.fill();
  if (!edge) return;
  brush.strokeStyle = edge;
  brush.lineWidth = 2;
  brush.stroke();
}

function badge(number, [x, y, seen], is_chosen, ink) {
  if (!seen && !is_chosen) return;
  brush.globalAlpha = seen ? 1 : 0.5;
  dot(x, y, 10, is_chosen ? ink : "#fff", ink);
  brush.fillStyle = is_chosen ? "#fff" : ink;
  brush.font = "600 11px system-ui, sans-serif";
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  brush.fillText(number, x * scale(), y * scale() + 0.5);
  brush.globalAlpha = 1;
}

function drawPath(number, is_chosen) {
  const path = paths[number];
  const ink = color(is_chosen ? "chosen" : path.is_drawn ? "drawn" : "plain");
  brush.lineCap = "round";
  for (const seen of [false, true]) {
    if (is_chosen && seen) {
      brush.lineWidth = 6;
      brush.strokeStyle = "#fffc";
      strokes(path.line, seen);
    }
    brush.lineWidth = is_chosen ? 3 : 1.8;
    brush.strokeStyle = ink;
    strokes(path.line, seen);
  }
  path.points.forEach(([x, y, seen], index) => {
    if (index === 0) return;
    brush.globalAlpha = seen ? 1 : 0.35;
    if (is_chosen) dot(x, y, 5, "#fff", ink);
    else dot(x, y, 2.4, ink);
    brush.globalAlpha = 1;
  });
  if (path.points.length) badge(number, path.points[0], is_chosen, ink);
}

function draw() {
  const ratio = window.devicePixelRatio || 1, side = Math.round(canvas.clientWidth * ratio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, canvas.clientWidth, canvas.clientWidth);
  paths.forEach((_, number) => { if (number !== chosen) drawPath(number, false); });
  if (paths[chosen]) drawPath(chosen, true);
  [...find("list").children].forEach((button, number) => {
    button.setAttribute("aria-pressed", number === chosen);
    button.className = paths[number] && paths[number].is_drawn ? "drawn" : "";
  });
  const path = paths[chosen], count = path ? path.points.length : 0;
  const hint = !path ? "" : !path.is_drawn
    ? " is as it was. Drag a point to mend it, or click on the face to draw it anew."
    : count < settings.least
      ? " has " + count + (count === 1 ? " point" : " points") +
        ". Click on the face, from the jaw to the front."
      : " has " + count + " points. Click to add one at its end, drag one to mend it.";
  find("about").textContent = "Path " + chosen + hint;
}

function choose(number) {
  chosen = number;
  draw();
  const start = paths[number] && paths[number].points[0];
  if (start && !start[2])
    turn(Math.round((number - 8) * 55 / 8), number > 4 && number < 12 ? -25 : 0);
}

// The pointer: it takes hold of a point, chooses a path by its number, or places a point.
function pixel(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / scale(), (event.clientY - box.top) / scale()];
}

function nearest(points, xy, reach) {
  let best = -1, least = reach / scale();
  points.forEach((point, index) => {
    const away = point && point[2] ? Math.hypot(point[0] - xy[0], point[1] - xy[1]) : Infinity;
    if (away < least) [best, least] = [index, away];
  });
  return best;
}

function under(event) {
  const xy = pixel(event), path = paths[chosen];
  const index = path ? nearest(path.points, xy, 10) : -1;
  if (index > 0 || (index === 0 && !path.is_tied)) return {index, xy};
  const number = nearest(paths.map(p => p.points[0]), xy, 11);
  return number >= 0 && number !== chosen ? {number, xy} : {xy};
}

canvas.addEventListener("pointerdown", event => {
  if (event.button || !paths.length) return;
  const at = under(event);
  if (at.number !== undefined) choose(at.number);
  else if (at.index !== undefined) {
    held = {index: at.index, goes_on: false, busy: false, xy: null};
    canvas.setPointerCapture(event.pointerId);
  } else place(at.xy);
});

function place(xy) {
  const path = paths[chosen];  // shown at once: the next click may come before the answer
  const kept = path.is_drawn ? path.points : path.is_tied ? path.points.slice(0, 1) : [];
  paths[chosen] = {...path, points: [...kept, [...xy, 1]], line: [], is_drawn: true};
  draw();
  act({act: "place", path: chosen, xy});
}

canvas.addEventListener("pointermove", event => {
  if (!held) {
    const at = under(event);
    canvas.style.cursor =
      at.index !== undefined ? "grab" : at.number !== undefined ? "pointer" : "crosshair";
    return;
  }
  held.xy = pixel(event);
  drag(held);
});

async function drag(hold) {  // sends no more moves than are answered
  if (hold.busy) return;
  hold.busy = true;
  while (hold.xy) {
    const {index, xy, goes_on} = hold;
    hold.xy = null;
    const reply = await ask({act: "move", path: chosen, index, xy, goes_on});
    hold.goes_on = hold.goes_on || !reply.is_bad;
    show(reply);
  }
  hold.busy = false;
}

for (const name of ["pointerup", "pointercancel"])
  canvas.addEventListener(name, () => { held = null; });

// The panel.
document.title = "Contour paths of " + settings.model;
find("face").alt = "The mean face of " + settings.model;
find("model").textContent = settings.model;
find("saved").textContent = "to " + settings.out;
for (let number = 0; number < settings.count; number++) {
  const button = document.createElement("button");
  button.textContent = number;
  button.title = "Path at landmark " + number;
  button.onclick = () => choose(number);
  find("list").append(button);
}
for (const id of ["yaw", "pitch"])
  find(id).oninput = () => turn(Number(find("yaw").value), Number(find("pitch").value));
for (const button of find("views").children)
  button.onclick = () => turn(...button.dataset.view.split(",").map(Number));
for (const id of ["undo", "clear", "reset", "save"])
  find(id).onclick = () => act({act: id, path: chosen});
document.addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    act({act: "undo", path: chosen});
  }
});
find("mirror").checked = settings.has_mirror;
find("mirror").disabled = !settings.has_mirror;
if (!settings.has_mirror) {
  find("mirror").parentElement.classList.add("off");
  find("mirror").parentElement.title = "The model does not say which vertices mirror each other.";
}
new ResizeObserver(draw).observe(canvas);
turn(view.yaw, view.pitch);
