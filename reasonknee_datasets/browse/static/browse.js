// The viewers of a page, and its keys. NiiVue draws volume and boxes; moving to another row of the same volume keeps
// the viewer and replaces the text and the boxes alone.
const niivue = import("./niivue.js"); // 5 MB, which are parsed while the volume is fetched and inflated

const EDGES = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((a) => [1, 2, 4].filter((bit) => !(a & bit)).map((bit) => [a, a | bit]));
const COLOURS = { true: [255, 176, 0], predicted: [86, 207, 255] };
const PLAIN = `#version 300 es
precision highp float;
uniform float opacity;
in vec4 vClr;
in vec3 vN;
out vec4 color;
void main() { color = vec4(vClr.rgb, opacity); }`; // NiiVue's own mesh shaders all shade
// What NiiVue does with an int16 volume on loading: windowed, in grey, in RAS order. Its own shader does the same for
// every colour map and overlay; without a graphics card it takes 1.1 s for a volume of OAI's size, this one 0.4 s. The
// alpha is that of NiiVue's colour map "gray". Masks are unsigned, so that they keep NiiVue's.
const ORIENT = [
  `#version 300 es
precision highp float;
uniform float coordZ;
uniform mat4 mtx;
in vec3 vPos;
out vec3 at;
void main() {
  at = (vec4(vPos.xy, coordZ, 1.0) * mtx).xyz;
  gl_Position = vec4((vPos.xy - 0.5) * 2.0, 0.0, 1.0);
}`,
  `#version 300 es
precision highp int;
precision highp float;
uniform highp isampler3D intensityVol;
uniform float scl_slope;
uniform float scl_inter;
uniform float cal_min;
uniform float cal_max;
in vec3 at;
out vec4 color;
void main() {
  float value = scl_slope * float(texture(intensityVol, at).r) + scl_inter;
  float grey = clamp((value - cal_min) / (cal_max - cal_min), value > cal_min ? 2.0 / 256.0 : 0.0, 1.0);
  color = vec4(vec3(grey), grey * 128.0 / 255.0);
}`,
];
const OPTIONS = {
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.6, 0.65, 0.7, 0.5],
  crosshairWidth: 0.4,
  show3Dcrosshair: false,
  isColorbar: false,
  isRadiologicalConvention: true,
  sagittalNoseLeft: true,
  isSliceMM: true, // boxes are drawn in the world, so slices are too
  meshThicknessOn2D: Infinity, // the whole outline of the box on each slice
  meshXRay: 0.8, // the box is seen inside the knee in 3D
  multiplanarShowRender: 0, // the 3D view is added when the planes are drawn
  multiplanarLayout: 2,
  dragAndDropEnabled: false,
  loadingText: "",
  logLevel: "error",
  isAntiAlias: true,
};

class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.state = canvas.parentElement.querySelector(".state");
    this.boxes = true;
    canvas.viewer = this;
  }

  async start() {
    const scene = JSON.parse(this.canvas.dataset.scene);
    prefetch(scene.volume); // while NiiVue starts
    try {
      const { Niivue } = await niivue;
      this.nv = new Niivue(OPTIONS);
      await this.nv.attachToCanvas(this.canvas);
    } catch (error) {
      this.report(error);
      return;
    }
    for (const [name, [r, g, b]] of Object.entries(COLOURS)) {
      this.nv.addColormap(`box-${name}`, { R: [r, r], G: [g, g], B: [b, b], A: [255, 255], I: [0, 255] });
    }
    this.nv.orientShaderI = new this.nv.orientShaderI.constructor(this.nv.gl, ...ORIENT);
    this.shader = this.nv.setCustomMeshShader(PLAIN, "Plain");
    this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
    await this.show(scene);
  }

  async show(scene) {
    this.loading?.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    this.scene = scene;
    try {
      if (scene.volume !== this.volume) await this.load(scene, signal);
      if (!signal.aborted) this.drawAll();
    } catch (error) {
      if (!signal.aborted) this.report(error);
    }
  }

  report(error) {
    this.state.textContent = `The volume cannot be shown: ${error.message ?? error}`;
    console.error(error);
  }

  // Planes and box first, then the mask; the 3D view comes last: without a graphics card its ray casting takes seconds.
  async load(scene, signal) {
    this.canvas.dataset.drawn = "";
    this.state.textContent = "Loading …";
    const image = await this.nv.niftiArray2NVImage(await (prefetched.get(scene.volume) ?? inflate(scene.volume, signal)));
    if (signal.aborted) return;
    prefetched.delete(scene.volume);
    this.volume = null;
    this.clearBoxes();
    this.nv.opts.multiplanarShowRender = 0;
    this.nv.volumes = [];
    this.nv.addVolume(image); // NiiVue's loadVolumes keeps every volume of the session in memory
    this.drawBoxes();
    this.canvas.dataset.drawn = "planes";
    if (scene.mask) {
      this.state.textContent = "Loading the mask …";
      const mask = await this.nv.niftiArray2NVImage(await inflate(scene.mask, signal));
      if (signal.aborted) return;
      mask.colormap = "violet";
      mask.opacity = 0.35;
      this.nv.addVolume(mask);
    }
    this.volume = scene.volume;
    await new Promise((done) => setTimeout(done, 150)); // a key that follows at once does not wait for the 3D view
  }

  drawAll() {
    this.nv.opts.multiplanarShowRender = 1;
    this.drawBoxes();
    this.state.textContent = "";
    this.canvas.dataset.drawn = "all";
    const { next } = this.canvas.dataset;
    if (next && next !== this.volume) {
      prefetched.clear();
      prefetch(next);
    }
  }

  clearBoxes() {
    // Not by addMesh and removeMesh: each of them sends the whole volume to the graphics card again.
    for (const mesh of this.nv.meshes) mesh.unloadMesh(this.nv.gl);
    this.nv.meshes = [];
  }

  drawBoxes() {
    this.clearBoxes();
    const { box, predicted } = this.scene;
    const drawn = this.boxes ? Object.entries({ true: box, predicted }).filter(([, corners]) => corners) : [];
    this.nv.meshes = drawn.map(([name, corners]) => {
      const mesh = this.outline(name, corners);
      mesh.meshShaderIndex = this.shader;
      return mesh;
    });
    const centre = [0, 1, 2].map((axis) => (box[0][axis] + box[7][axis]) / 2);
    this.nv.scene.crosshairPos = this.nv.mm2frac(centre);
    this.nv.drawScene();
  }

  outline(name, corners) {
    const size = corners.length;
    const thick = Math.max(0.3, 330 / this.canvas.clientWidth); // mm, about a pixel to each side of the line
    const edges = new Array(size * size).fill(0);
    for (const [a, b] of EDGES) edges[a * size + b] = 1;
    const colours = { nodeColormap: `box-${name}`, nodeColormapNegative: `box-${name}`, nodeMinColor: 0, nodeMaxColor: 1 };
    const lines = { edgeColormap: `box-${name}`, edgeColormapNegative: `box-${name}`, edgeMin: 0, edgeMax: 1, edgeScale: thick };
    return this.nv.loadConnectomeAsMesh({
      name,
      ...colours,
      ...lines,
      nodeScale: thick,
      legendLineThickness: 0,
      showLegend: false,
      nodes: {
        names: corners.map(() => ""),
        X: corners.map((corner) => corner[0]),
        Y: corners.map((corner) => corner[1]),
        Z: corners.map((corner) => corner[2]),
        Color: corners.map(() => 1),
        Size: corners.map(() => 1),
      },
      edges,
    });
  }

  toggleBoxes() {
    this.boxes = !this.boxes;
    this.drawBoxes();
  }

  toggleMask() {
    if (this.nv.volumes.length > 1) this.nv.setOpacity(1, this.nv.volumes[1].opacity > 0 ? 0 : 0.35);
  }
}

async function inflate(url, signal) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const stream = answer.body.pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Inflated volumes that will be shown: those of this page, then that of the next row.
const prefetched = new Map();
function prefetch(url) {
  const bytes = inflate(url);
  prefetched.set(url, bytes);
  bytes.catch(() => prefetched.delete(url)); // it is fetched again when it is shown, and then the error is reported
}

const viewers = [...document.querySelectorAll("canvas[data-scene]")].map((canvas) => new Viewer(canvas));
const started = viewers.map((viewer) => viewer.start());

let moves = 0;
async function move(url, push) {
  const own = ++moves;
  const canvas = document.querySelector("canvas[data-scene]");
  const answer = await fetch(url);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (own !== moves) return; // another key came meanwhile
  const next = page.querySelector("canvas[data-scene]");
  if (!answer.ok || !canvas || !next) {
    location.assign(url);
    return;
  }
  document.title = page.title;
  document.getElementById("text").replaceWith(page.getElementById("text"));
  document.querySelector(".legend").replaceWith(page.querySelector(".legend"));
  if (push) history.pushState(null, "", url);
  canvas.setAttribute("aria-label", next.getAttribute("aria-label"));
  Object.assign(canvas.dataset, { scene: next.dataset.scene, next: next.dataset.next ?? "" });
  await Promise.all(started);
  if (own === moves) await canvas.viewer.show(JSON.parse(next.dataset.scene));
}

addEventListener("popstate", () => move(location.href, false));
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("#next, #previous");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  move(link.href, true);
});

const KEYS = { n: "next", ArrowRight: "next", p: "previous", ArrowLeft: "previous", v: "visits", l: "list" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
  if (event.key === "b") viewers.forEach((viewer) => viewer.toggleBoxes());
  if (event.key === "m") viewers.forEach((viewer) => viewer.toggleMask());
  const link = Object.hasOwn(KEYS, event.key) && document.getElementById(KEYS[event.key]);
  if (link) {
    event.preventDefault();
    event.stopPropagation(); // a focused viewer has keys of its own
    link.click();
  }
}, true);
