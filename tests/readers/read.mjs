// Inflate a gzip file with every reader that browser viewers use; print a digest for each.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync as nodeGunzip } from "node:zlib";
import { gunzipSync, Gunzip } from "fflate";
import * as pako from "pako";

const data = readFileSync(process.argv[2]);
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

function fflateStream() {
  const parts = [];
  const inflater = new Gunzip((chunk) => parts.push(chunk));
  for (let start = 0; start < data.length; start += 65536) {
    inflater.push(data.subarray(start, start + 65536), start + 65536 >= data.length);
  }
  return Buffer.concat(parts);
}

async function decompressionStream() {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return Buffer.from(await new Response(stream).arrayBuffer());
}

console.log(JSON.stringify({
  "node zlib": digest(nodeGunzip(data)),
  "fflate": digest(gunzipSync(data)),
  "fflate stream": digest(fflateStream()),
  "pako": digest(pako.ungzip(data)),
  "DecompressionStream": digest(await decompressionStream()),
}));
