// The page reads well without this file. It adds the chart, sorting by column and the copy button.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
const copy = document.getElementById("copy");
if (copy) makeCopy(copy, document.getElementById("snippet"));
for (const plot of document.querySelectorAll(".plot")) {
  keepDrawn(plot.querySelector("canvas"), JSON.parse(plot.querySelector("script").textContent));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if ("fixed" in head.dataset) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const body = table.tBodies[0];
      body.append(...sorted([...body.rows], column, order === "ascending" ? 1 : -1));
    });
  });
}

// By number where cells carry one in data-v, else by text. What was not measured comes last in both directions.
function sorted(rows, column, sign) {
  const value = (row) => {
    const { dataset, textContent } = row.cells[column];
    return dataset.v === undefined ? textContent : dataset.v === "" ? null : Number(dataset.v);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
  return rows
    .map((row) => [value(row), row])
    .sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)))
    .map(([, row]) => row);
}

// A page that was opened from a disk may not be given the clipboard: then the text is selected, ready for Ctrl+C.
function makeCopy(button, source) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
  });
}

// Colours come from the style sheet, so the chart is drawn anew when the scheme changes and for paper.
function keepDrawn(canvas, data) {
  canvas.parentElement.hidden = false;
  let chart = draw(canvas, data);
  const redraw = () => {
    chart.destroy();
    chart = draw(canvas, data);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("printing", printing);
      redraw();
    });
  }
  let at = -1;
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    at = (Math.max(at, step < 0 ? 0 : -1) + step + data.points.length) % data.points.length;
    show(chart, data.points[at]);
  });
}

function show(chart, point) {
  for (let datasetIndex = 0; datasetIndex < chart.data.datasets.length; datasetIndex++) {
    const dataset = chart.data.datasets[datasetIndex];
    const index = dataset.data.findIndex((each) => each.point === point);
    if (index < 0 || dataset.quiet) continue;
    const { x, y } = chart.getDatasetMeta(datasetIndex).data[index];
    chart.setActiveElements([{ datasetIndex, index }]);
    chart.tooltip.setActiveElements([{ datasetIndex, index }], { x, y });
    chart.update();
    document.getElementById(`${chart.canvas.id}-spoken`).textContent = [title(point), ...point.lines].join(", ");
  }
}

const title = (point) => `${point.name}, ${point.precision}`;

function group(point) {
  return `${point.family} ${point.precision}`.trim();
}

// Long lines of a tooltip would run out of the canvas.
const wrap = (text) => text.match(/.{1,36}(?=\s|$)|.{1,36}/gsu).map((line) => line.trim());

function draw(canvas, data) {
  const css = getComputedStyle(document.documentElement);
  const colour = (name) => css.getPropertyValue(`--${name}`).trim();
  const narrow = canvas.parentElement.clientWidth < 500;
  const largest = Math.max(...data.points.map((point) => point.bytes ?? 0), 1);
  const radius = (point) => Math.max(4, (narrow ? 14 : 20) * Math.sqrt((point.bytes ?? 0) / largest));
  const place = (point) => ({ x: point.x, y: point.accuracy, r: radius(point), point });

  const accuracies = data.points.map((point) => point.accuracy);
  const margin = Math.max(1, 0.15 * (Math.max(...accuracies) - Math.min(...accuracies)));
  const low = Math.max(0, Math.floor(Math.min(...accuracies) - margin));
  const high = Math.min(100, Math.ceil(Math.max(...accuracies) + margin));

  // A family has a colour and a shape, a precision is filled or hollow: colour alone says nothing.
  const shapes = ["circle", "rectRot", "triangle", "rect"];
  const families = [...new Set(data.points.map((point) => point.family))].sort();
  const groups = [...new Set(data.points.map(group))].sort();
  const datasets = groups.map((label) => {
    const points = data.points.filter((point) => group(point) === label);
    const family = families.indexOf(points[0].family);
    const own = colour(`c${family % 6}`);
    return {
      label,
      data: points.sort((a, b) => (b.bytes ?? 0) - (a.bytes ?? 0)).map(place), // small ones on top
      pointStyle: shapes[family % shapes.length],
      borderColor: own,
      backgroundColor: points[0].precision.startsWith("float") ? "transparent" : `${own}80`,
      borderWidth: 2,
      hoverBorderWidth: 3,
    };
  });
  const delivered = data.points.filter((point) => point.delivered);
  if (delivered.length) {
    datasets.push({
      label: "delivered",
      quiet: true,
      data: delivered.map((point) => ({ ...place(point), r: radius(point) + 6 })),
      pointStyle: "circle",
      borderColor: colour("ink"),
      backgroundColor: "transparent",
      borderWidth: 2,
      hoverRadius: 0,
    });
  }
  if (data.path.length > 1) {
    datasets.push({
      type: "line",
      label: "the way down",
      quiet: true,
      data: data.path.map((index) => ({ x: data.points[index].x, y: data.points[index].accuracy })),
      pointStyle: "line",
      pointRadius: 0,
      pointHitRadius: 0,
      borderColor: colour("soft"),
      borderWidth: 1.5,
    });
  }
  if (data.limit !== null) {
    datasets.push({
      type: "line",
      label: data.limit_text,
      quiet: true,
      data: [low, high].map((y) => ({ x: data.limit, y })),
      pointStyle: "line",
      pointRadius: 0,
      pointHitRadius: 0,
      borderColor: colour("broken"),
      borderDash: [6, 4],
      borderWidth: 2,
    });
  }

  const axis = (text, more) => ({
    title: { display: true, text, color: colour("soft") },
    ticks: { color: colour("soft"), maxRotation: 0 },
    grid: { color: colour("line") },
    border: { color: colour("line") },
    ...more,
  });
  Object.assign(Chart.defaults.font, { family: getComputedStyle(document.body).fontFamily, size: narrow ? 12 : 13 });
  return new Chart(canvas, {
    type: "bubble",
    data: { datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      clip: false,
      layout: { padding: { top: 6, right: narrow ? 14 : 22 } },
      interaction: { mode: "nearest", intersect: true },
      scales: {
        x: axis(data.axis, data.log ? { type: "logarithmic" } : { beginAtZero: true, grace: "5%" }),
        y: axis("accuracy, %", { min: low, max: high, ticks: { color: colour("soft"), includeBounds: false } }),
      },
      plugins: {
        legend: {
          position: "bottom",
          align: "start",
          labels: { color: colour("ink"), usePointStyle: true, boxHeight: 8, padding: 14 },
        },
        tooltip: {
          filter: (item) => !item.dataset.quiet,
          displayColors: false,
          padding: 10,
          backgroundColor: colour("ink"),
          titleColor: colour("paper"),
          bodyColor: colour("paper"),
          callbacks: {
            title: (items) => items.flatMap((item) => wrap(title(item.raw.point))),
            label: (item) => item.raw.point.lines.flatMap(wrap),
          },
        },
      },
    },
  });
}
