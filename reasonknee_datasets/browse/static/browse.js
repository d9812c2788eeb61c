// The viewers of a page, and its keys. NiiVue draws volume and boxes; moving to another row of the same volume keeps
// the viewer and replaces the text and the boxes alone.
import { Niivue } from "./niivue.js";

const EDGES = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((a) => [1, 2, 4].filter((bit) => !(a & bit)).map((bit) => [a, a | bit]));
const COLOURS = { true: [255, 176, 0], predicted: [86, 207, 255] };
const PLAIN = `#version 300 es
precision highp float;
uniform float opacity;
in vec4 vClr;
in vec3 vN;
out vec4 color;
void main() { color = vec4(vClr.rgb, opacity); }`; // NiiVue's own mesh shaders all shade
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
  multiplanarShowRender: 1,
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
    this.nv = new Niivue(OPTIONS);
    await this.nv.attachToCanvas(this.canvas);
    for (const [name, [r, g, b]] of Object.entries(COLOURS)) {
      this.nv.addColormap(`box-${name}`, { R: [r, r], G: [g, g], B: [b, b], A: [255, 255], I: [0, 255] });
    }
    this.shader = this.nv.setCustomMeshShader(PLAIN, "Plain");
    this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
    await this.show(JSON.parse(this.canvas.dataset.scene));
  }

  async show(scene) {
    if (scene.volume !== this.scene?.volume) {
      this.canvas.dataset.ready = "";
      this.state.textContent = "Loading …";
      const volumes = [{ url: scene.volume, name: "volume.nii.gz", colormap: "gray" }];
      if (scene.mask) volumes.push({ url: scene.mask, name: "mask.nii.gz", colormap: "violet", opacity: 0.35 });
      await this.nv.loadVolumes(volumes);
      this.state.textContent = "";
    }
    this.scene = scene;
    this.drawBoxes();
    this.canvas.dataset.ready = scene.volume;
  }

  drawBoxes() {
    // Not by addMesh and removeMesh: each of them sends the whole volume to the graphics card again.
    for (const mesh of this.nv.meshes) mesh.unloadMesh(this.nv.gl);
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

const viewers = [...document.querySelectorAll("canvas[data-scene]")].map((canvas) => new Viewer(canvas));
const started = viewers.map(async (viewer) => {
  try {
    await viewer.start();
  } catch (error) {
    viewer.state.textContent = `The volume cannot be shown: ${error.message ?? error}`;
    console.error(error);
  }
});

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
  canvas.dataset.scene = next.dataset.scene;
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
