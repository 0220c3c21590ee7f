// Reads .swl containers: the same verdict, error code and content as swiftlet's Python reader (docs/pack.md).
// A plain module without dependencies, for browsers and Node 20: SHA-256 and deflate are the platform's own.
//
//   const { kind, meta, file, tensors } = await read(bytes);   // bytes: Uint8Array
//
// kind "onnx": `file` is the ONNX file. kind "tensors": `tensors` lists {name, dtype, shape, bytes}, little-endian.

const MAGIC = [0x89, 0x53, 0x57, 0x4c, 0x0d, 0x0a, 0x1a];
const VERSIONS = [1, 2];
const RAW = 0, DEFLATE = 1, ANS = 2, SKELETON = 3;
const FRONT = 20; // bytes before the header
const CHUNK = 2 ** 20;
const MAX = {
  header: 2 ** 18, skeleton: 2 ** 20, tensors: 16384, streams: 4096, rank: 8, name: 256, codebook: 256, expansion: 2048,
  bytes: 1e9,
};
const ITEMSIZE = { f2: 2, f4: 4, f8: 8, bf: 2, i1: 1, i2: 2, i4: 4, i8: 8, u1: 1, u2: 2, u4: 4, u8: 8 };
const FLOATS = ["f2", "f4", "f8", "bf"];
const FIELDS = [2, 4]; // bits of the symbols of encoding 4
const SKIP = 255;
const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzCDEFGHIJKLMNOPQRSTUVWXYZ"; // of names, without B
const VALUES = Array.from({ length: 256 }, (_, code) => DIGITS.indexOf(String.fromCharCode(code)));
const INPUT = 10;
const PARTS = 2 ** 24;
const MAX_FREQUENCY = 200;

export class ContainerError extends Error {
  constructor(code, offset) {
    super(`the container is refused (${code} at byte ${offset})`);
    this.code = code;
    this.offset = offset;
  }
}

export async function read(data, { maxBytes = MAX.bytes } = {}) {
  const container = await open(data, maxBytes);
  const { fields, streams, entries } = container;
  const first = fields.kind === "onnx" ? 1 : 0;
  const skeleton = first ? await decodeSkeleton(streams[0]) : null;
  const source = streams.map((stream, i) => {
    return i < first ? null : { symbols: decode(stream), at: 0, offset: stream.offset };
  });

  const pieces = [];
  const tensors = [];
  let at = 0;
  for (const { name, dtype, shape, count, encoding } of entries) {
    const bytes = decodeTensor(encoding, dtype, count, source);
    if (first) {
      pieces.push(skeleton.subarray(at, at + name));
      at += name;
    } else {
      tensors.push({ name, dtype, shape, bytes });
    }
    pieces.push(bytes);
  }
  if (first) pieces.push(skeleton.subarray(at));
  const content = join(pieces);
  if (hex(await sha256(content)) !== fields.sha256) throw new ContainerError("content-digest", FRONT);
  return { kind: fields.kind, meta: fields.meta, sha256: fields.sha256, ...(first ? { file: content } : { tensors }) };
}

// ---- layout ----------------------------------------------------------------------------------------------------

async function open(data, maxBytes) {
  const { header, start, payload, version } = await checked(data);
  const fields = parse(header);
  check(fields.kind === "onnx" || fields.kind === "tensors", "header-field");
  check(typeof fields.sha256 === "string" && /^[0-9a-f]{64}$/.test(fields.sha256), "header-field");
  check(isObject(fields.meta), "header-field");
  const keys = Object.keys(fields.meta);
  check(isSorted(keys), "header-json");
  check(keys.every((key) => /^[a-z][a-z0-9_.-]{0,63}$/.test(key)), "header-field");
  check(Object.values(fields.meta).every((text) => typeof text === "string"), "header-field");
  const sizes = readStreams(fields, version, payload);
  const entries = readEntries(fields, version);
  checkTotals(fields.kind, version, entries, sizes, Math.min(maxBytes, MAX.expansion * data.length));
  let offset = start;
  const streams = sizes.map(({ coder, symbols, bytes }) => {
    offset += bytes;
    return { coder, symbols, offset: offset - bytes, data: data.subarray(offset - bytes, offset) };
  });
  return { fields, streams, entries };
}

// The header's bytes and where the payload begins, after lengths and digests have proved right.
async function checked(data) {
  const version = data[MAGIC.length];
  if (MAGIC.some((byte, i) => data[i] !== byte) || !VERSIONS.includes(version)) throw new ContainerError("magic", 0);
  if (data.length < FRONT) throw new ContainerError("short", data.length);
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const length = view.getUint32(8, true);
  const payload = view.getUint32(12, true) + view.getUint32(16, true) * 2 ** 32;
  if (length > MAX.header) throw new ContainerError("header-size", 8);
  const digests = FRONT + length;
  const start = digests + 32 * Math.ceil(payload / CHUNK) + 32;
  if (data.length < start + payload) throw new ContainerError("short", data.length);
  if (data.length > start + payload) throw new ContainerError("trailing", start + payload);
  if (!same(await sha256(data.subarray(0, start - 32)), data.subarray(start - 32, start))) {
    throw new ContainerError("header-digest", start - 32);
  }
  for (let i = 0; i * CHUNK < payload; i++) {
    const digest = await sha256(data.subarray(start + i * CHUNK, start + (i + 1) * CHUNK));
    if (!same(digest, data.subarray(digests + 32 * i, digests + 32 * (i + 1)))) {
      throw new ContainerError("chunk-digest", start + i * CHUNK);
    }
  }
  return { header: data.subarray(FRONT, digests), start, payload, version };
}

function parse(bytes) {
  let fields;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    fields = JSON.parse(text, (key, value) => {
      const half = /\p{Surrogate}/u; // of a pair: text that UTF-8 cannot hold
      if (half.test(key) || (typeof value === "string" && half.test(value))) throw new Error();
      if (typeof value === "number" && !(Number.isInteger(value) && Math.abs(value) <= 2 ** 53)) throw new Error();
      if (isObject(value) && !isSorted(Object.keys(value))) throw new Error();
      return value;
    });
    if (JSON.stringify(fields) !== text) throw new Error(); // also refuses a key given twice
  } catch {
    throw new ContainerError("header-json", FRONT);
  }
  check(isObject(fields), "header-field");
  check(isSorted(Object.keys(fields)), "header-json");
  check(Object.keys(fields).join() === "kind,meta,sha256,streams,tensors", "header-field");
  return fields;
}

function readStreams({ streams, kind }, version, payload) {
  check(Array.isArray(streams), "header-field");
  check(streams.length <= MAX.streams, "stream");
  const sizes = streams.map((row, i) => {
    check(Array.isArray(row) && row.length === 3 && row.every(isSize), "stream");
    const [coder, symbols, bytes] = row;
    const coders = kind !== "onnx" || i > 0 ? [RAW, ANS] : version === 1 ? [DEFLATE] : [DEFLATE, SKELETON];
    check(coders.includes(coder) && symbols > 0 && (coder !== RAW || bytes === symbols), "stream");
    check(coder !== SKELETON || symbols <= MAX.skeleton, "limit");
    return { coder, symbols, bytes };
  });
  check(kind === "tensors" || sizes.length > 0, "stream");
  check(sizes.reduce((sum, size) => sum + size.bytes, 0) === payload, "stream");
  return sizes;
}

function readEntries({ tensors, kind }, version) {
  check(Array.isArray(tensors), "header-field");
  check(tensors.length <= MAX.tensors, "limit");
  const names = new Set();
  let before = null;
  return tensors.map((found) => {
    let row = found;
    if (kind === "onnx" && version > 1 && before && Array.isArray(row)) {
      if (row.length === 2) row = [row[0], before[1], [row[1]], before[3]];
      else check(row.length !== 4 || !repeats(row, before), "header-field"); // in more letters than it takes
    }
    check(Array.isArray(row) && row.length === 4, "header-field");
    before = row;
    const [name, dtype, shape, encoding] = row;
    if (kind === "tensors") {
      check(isName(name) && !names.has(name), "name");
      names.add(name);
    } else {
      check(isSize(name), "header-field");
    }
    check(typeof dtype === "string" && Object.hasOwn(ITEMSIZE, dtype), "dtype");
    check(dtype !== "bf" || kind === "onnx", "dtype");
    check(Array.isArray(shape) && shape.length <= MAX.rank && shape.every(isSize), "shape");
    // beyond 2^53 a product is inexact, and far above every limit
    const sides = shape.reduce((product, n) => product * (n || 1), 1);
    return { name, dtype, shape, sides, count: shape.includes(0) ? 0 : sides, encoding };
  });
}

// Whether a tensor of an ONNX file has the type and encoding of the one before.
function repeats([, dtype, shape, encoding], before) {
  const same = JSON.stringify([dtype, encoding]) === JSON.stringify([before[1], before[3]]);
  return same && Array.isArray(shape) && shape.length === 1;
}

function checkTotals(kind, version, entries, sizes, limit) {
  let total = kind === "onnx" ? sizes[0].symbols : 0;
  let skeleton = 0;
  const needed = sizes.map(() => 0);
  for (const { name, dtype, sides, count, encoding } of entries) {
    total += count * ITEMSIZE[dtype];
    check(total <= limit && sides <= MAX.bytes, "limit");
    for (const [stream, symbols] of demands(encoding, dtype, count, version, false)) {
      check(stream < sizes.length && ![DEFLATE, SKELETON].includes(sizes[stream].coder), "encoding");
      needed[stream] += symbols;
    }
    if (kind === "onnx") skeleton += name;
  }
  check(total <= limit && sizes.reduce((sum, size) => sum + size.symbols, 0) <= limit, "limit");
  if (kind === "onnx") {
    check(skeleton <= sizes[0].symbols, "count");
    needed[0] = sizes[0].symbols;
  }
  check(sizes.every((size, i) => size.symbols === needed[i]), "count");
}

// ---- encodings -------------------------------------------------------------------------------------------------

function* demands(encoding, dtype, count, version, inner) {
  check(Array.isArray(encoding), "encoding");
  const width = ITEMSIZE[dtype];
  const [tag, ...rest] = encoding;
  if (encoding.length === 0) {
    check(count === 0 && !inner, "encoding");
    return;
  }
  check(count > 0 && rest.slice(0, tag === 3 ? 3 : undefined).every(isSize), "encoding");
  if (tag === 0 && rest.length === 1) {
    yield [rest[0], count * width];
  } else if (tag === 1 && rest.length === width) {
    for (const stream of rest) yield [stream, count];
  } else if (tag === 2 && rest.length === width + 2 && width <= 4 && rest[0] >= 1 && rest[0] <= MAX.codebook) {
    for (const stream of rest.slice(1, -1)) yield [stream, rest[0]];
    yield [rest.at(-1), count];
  } else if (tag === 3 && rest.length === 4 && !inner && rest[0] >= 1 && rest[0] <= rest[1] && rest[1] <= count) {
    yield [rest[2], rest[1]];
    yield* demands(rest[3], dtype, rest[0], version, true);
  } else if (tag === 4 && version > 1 && rest.length === 2 && width === 1 && !inner && FIELDS.includes(rest[0])) {
    yield [rest[1], (count * 8) / rest[0]];
  } else {
    check(false, "encoding");
  }
}

function decodeTensor(encoding, dtype, count, source) {
  const width = ITEMSIZE[dtype];
  const bytes = new Uint8Array(count * width);
  const [tag, ...rest] = encoding;
  if (tag === 0) {
    bytes.set(take(source[rest[0]], count * width));
  } else if (tag === 1) {
    const planes = rest.map((stream) => take(source[stream], count));
    const turn = FLOATS.includes(dtype) ? 1 : 0;
    planes.forEach((plane, k) => place(bytes, plane, planes[(k + 1) % width], k, width, turn));
  } else if (tag === 2) {
    const planes = rest.slice(1, -1).map((stream) => take(source[stream], rest[0]));
    const last = source[rest.at(-1)];
    share(bytes, planes, take(last, count), last.offset);
  } else if (tag === 3) {
    const gaps = take(source[rest[2]], rest[1]);
    const weights = decodeTensor(rest[3], dtype, rest[0], source);
    spread(bytes, gaps, weights, width, source[rest[2]].offset);
  } else if (tag === 4) {
    const [bits, stream] = rest;
    const fields = take(source[stream], (count * 8) / bits);
    let used = 0; // bits, of any field
    for (let i = 0, at = 0; i < count; i++) {
      let byte = 0;
      for (let shift = 0; shift < 8; shift += bits) {
        used |= fields[at];
        byte |= fields[at++] << shift;
      }
      bytes[i] = byte;
    }
    if (used >> bits) throw new ContainerError("codebook", source[stream].offset);
  }
  return bytes;
}

// One byte of every element, turned right with those above it by so many bits.
function place(bytes, plane, above, first, width, turn) {
  for (let i = 0, at = first; i < plane.length; i++, at += width) {
    bytes[at] = (plane[i] >> turn) | (above[i] << (8 - turn));
  }
}

function share(bytes, planes, indices, offset) {
  const width = planes.length;
  const size = planes[0].length;
  const values = new Uint8Array(size * width);
  let value = 0;
  for (let i = 0; i < size; i++) {
    const step = planes.reduce((sum, plane, byte) => sum + plane[i] * 256 ** byte, 0);
    value += step;
    if ((i > 0 && step === 0) || value >= 256 ** width) throw new ContainerError("codebook", offset);
    for (let byte = 0; byte < width; byte++) values[i * width + byte] = Math.floor(value / 256 ** byte);
  }
  let at = 0;
  for (const index of indices) {
    if (index >= size) throw new ContainerError("codebook", offset);
    for (let byte = 0; byte < width; byte++) bytes[at++] = values[index * width + byte];
  }
}

function spread(bytes, gaps, weights, width, offset) {
  let place = 0; // in elements
  let from = 0; // in bytes of `weights`
  for (const gap of gaps) {
    place += gap;
    if (gap === SKIP) continue;
    if (from === weights.length || (place + 1) * width > bytes.length) throw new ContainerError("gaps", offset);
    let any = 0;
    for (let j = 0; j < width; j++) any |= bytes[place * width + j] = weights[from++];
    if (any === 0) throw new ContainerError("gaps", offset);
    place++;
  }
  if (from !== weights.length || gaps[gaps.length - 1] === SKIP) throw new ContainerError("gaps", offset);
}

function take(stream, count) {
  stream.at += count;
  return stream.symbols.subarray(stream.at - count, stream.at);
}

// ---- coders ----------------------------------------------------------------------------------------------------

function decode({ coder, symbols, data, offset }) {
  return coder === RAW ? data : decodeAns(data, symbols, offset);
}

async function decodeSkeleton({ coder, data, symbols, offset }) {
  if (coder === DEFLATE) return inflate({ data, symbols, offset });
  // a zlib stream that begins with a dictionary: its header, and the dictionary as a block that is stored
  const words = await dictionary();
  const size = [words.length & 255, words.length >> 8];
  const front = new Uint8Array([0x78, 0xda, 0, ...size, ...size.map((byte) => byte ^ 255)]);
  const text = await inflate({ data: join([front, words, data]), symbols: words.length + symbols, offset });
  return absolute(text.subarray(words.length));
}

// Names of tensors, in place: a byte 10, 18 or 66, a byte 2 and two digits, which are the number of the name less that
// of the last one that was no input (10).
function absolute(bytes) {
  let last = 0;
  for (let i = 0; i + 3 < bytes.length; i++) {
    const high = VALUES[bytes[i + 2]];
    const low = VALUES[bytes[i + 3]];
    if (bytes[i + 1] !== 2 || ![INPUT, 18, 66].includes(bytes[i]) || high < 0 || low < 0) continue;
    const number = (high * DIGITS.length + low + last) % DIGITS.length ** 2;
    if (bytes[i] !== INPUT) last = number;
    bytes[i + 2] = DIGITS.charCodeAt(Math.floor(number / DIGITS.length));
    bytes[i + 3] = DIGITS.charCodeAt(number % DIGITS.length);
  }
  return bytes;
}

// What skeleton.py calls DICTIONARY.
async function dictionary() {
  const deflated = Uint8Array.from(atob(DICTIONARY), (character) => character.charCodeAt(0));
  return new Uint8Array(await new Response(inflating(deflated)).arrayBuffer());
}

const inflating = (data) => new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));

async function inflate({ data, symbols, offset }) {
  const bytes = await inflated(data, symbols);
  // Node 20 ignores what follows the end; a stream that is whole is none without its last byte
  if (bytes === null || (await inflated(data.subarray(0, -1), symbols)) !== null) {
    throw new ContainerError("deflate", offset);
  }
  return bytes;
}

// null unless the data is a zlib stream of exactly so many bytes
async function inflated(data, length) {
  const bytes = new Uint8Array(length);
  let at = 0;
  try {
    for await (const piece of inflating(data)) {
      bytes.set(piece, at); // throws beyond the end, which stops the stream
      at += piece.length;
    }
  } catch {
    return null;
  }
  return at === length ? bytes : null;
}

// A stack of 32-bit words under a state of 64 bits, here two halves. All is arithmetic of 32-bit integers.
function decodeAns(data, count, offset) {
  const { low, table, end } = readTable(data, offset);
  const symbols = new Uint8Array(count);
  if (table.length === 1) {
    if (data.length > end) throw new ContainerError("ans", offset);
    return symbols.fill(low);
  }
  const starts = running(table);
  const words = new DataView(data.buffer, data.byteOffset + end, data.length - end);
  let at = words.byteLength;
  if (at % 4 || at === 0 || words.getUint32(at - 4, true) === 0) throw new ContainerError("ans", offset);

  const guess = new Uint8Array(4096); // the symbol at each 4096th part
  for (let i = 0, symbol = 0; i < 4096; i++) {
    while (starts[symbol + 1] <= i * 4096) symbol++;
    guess[i] = symbol;
  }
  const next = () => words.getUint32((at -= 4), true) | 0;
  let high = 0;
  let lower = next();
  if (at) [high, lower] = [lower, next()];
  for (let i = 0; i < count; i++) {
    const part = lower & (PARTS - 1);
    let symbol = guess[part >>> 12];
    while (starts[symbol + 1] <= part) symbol++;
    symbols[i] = low + symbol;
    // state = (state >> 24) * size + part - start
    const start = starts[symbol];
    const size = starts[symbol + 1] - start;
    const rest = Math.imul(lower >>> 24, size) + part - start; // below 2^32
    // high * size, of which the lowest 8 of 56 bits meet `rest`: by halves of 16 bits
    const below = Math.imul(high & 0xffff, size & 0xffff);
    const across = Math.imul(high >>> 16, size & 0xffff);
    const middle = (below >>> 16) + (across & 0xffff) + Math.imul(high & 0xffff, size >>> 16);
    const above = Math.imul(high >>> 16, size >>> 16) + (across >>> 16);
    lower = (((middle << 24) | ((below & 0xffff) << 8)) + rest) | 0;
    const carry = lower >>> 0 < rest >>> 0 ? 1 : 0;
    high = ((above << 8) + (middle >>> 8) + carry) | 0;
    if (high === 0 && at) {
      high = lower;
      lower = next();
    }
  }
  if (high || lower || at) throw new ContainerError("ans", offset);
  return symbols;
}

// The lowest symbol, the frequencies from there on, and where they end in the data.
function readTable(data, offset) {
  if (data.length < 2 || data[0] > data[1]) throw new ContainerError("table", offset);
  const span = data[1] - data[0] + 1;
  const table = span === 1 ? [1] : [];
  let end = 2;
  while (table.length < span && end < data.length) {
    if (data[end]) {
      table.push(data[end++]);
    } else if (table.at(-1) && end + 1 < data.length) {
      for (let run = data[end + 1]; run >= 0; run--) table.push(0);
      end += 2;
    } else {
      throw new ContainerError("table", offset);
    }
  }
  if (table.length !== span || !table[span - 1] || Math.max(...table) > MAX_FREQUENCY) {
    throw new ContainerError("table", offset);
  }
  return { low: data[0], table, end };
}

// Where each symbol's share of the 2^24 parts begins, and the end of the last.
function running(table) {
  const sums = [0n];
  for (const frequency of table) {
    const level = BigInt(Math.max(frequency - 1, 0));
    sums.push(sums.at(-1) + (frequency ? (8n + (level % 8n)) << (level / 8n) : 0n));
  }
  const free = BigInt(PARTS - table.length);
  return Int32Array.from(sums, (sum, i) => Number((sum * free) / sums.at(-1)) + i);
}

// ---- small things ----------------------------------------------------------------------------------------------

function check(condition, code) {
  if (!condition) throw new ContainerError(code, FRONT);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isSize = (value) => Number.isSafeInteger(value) && value >= 0;
const isSorted = (keys) => keys.every((key, i) => i === 0 || keys[i - 1] < key);

function isName(name) {
  if (typeof name !== "string" || name.length === 0 || new TextEncoder().encode(name).length > MAX.name) return false;
  return name === name.normalize("NFC") && !/[\x00-\x1f\x7f]/.test(name);
}

function join(pieces) {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

// ---- the dictionary of skeletons, deflated ----------------------------------------------------------------------------

const DICTIONARY = [
  "eNrdWVtzGzUUji9JHNEGx51AKDwUTR/AuMa7viT1A6ShM2UY6JSWDpBMZpF3FVuTvSHtpm47+S99hr/GH+AJztmbb3FKUtPJ1K6co8vRuejoSPpK",
  "PifLwmF9Xsk3GnTtJ8lc5XuKVzdI0efS2V3aLezmdvOvcqvkIwJjYJxGi98wFVTXSD5wt3KvcnnyNXZB0aDoUJpQWjC0TSt7LDAHDz3pMFu8YIHw",
  "XJh7lftK2J67uQSfV7kc+W18AmBs3rx2xFkQSq7qjXoDJHruSXWTXDvm0uW2oQbM56BaARSLdGWWAj2jLzaVyaoKpLC42s3H2ncy7d/7lknrieg7",
  "nrCq75NlZvsDtvnnH9WvQJPqOin2eMBQs69Rsw2S39/PeAs/hDb5OKtuPLC9HrPvnXAJPnzkeTa5N2NJpWd75jHaoXhdcis0+Rx7YuXJ+sjRj7kd",
  "vm5KPvSZa50/5ZtY/3jS+o2suppMc5aPbqc6V2KdNbr8xLdFUH2PFNlQqDhuPgXGX5A5GrECFphsasjm+ER09TGP7CKfZeLGgvZGFrR5MLywW0TT",
  "50zw8XTIQncLlLSFyWMbM57CI2YRNTL7BzbEpYYgWzO5sA3Hs/gWhHG+WiFrlrCjKFdpKL5J0J6Olm0sxs4QvEU2TC90A0O4ph1a3IC5I//NiI9n",
  "zsQvxd+zxX8wHXgQZLbwY19MBORGEpBavedZz+FPumWvkeW+9EJ/q3yWMhfxxe7rhOpz80SyCZJV3X8ah+k9y5rZak9nhNxQAbg9ykKxmEukoxkx",
  "52aQOQGrzahGTJspJY4El7T4gDtO9TpZCXA37MVrXyoVyrk9GJ5R2pnUeqlcKuA3G13OeoAu5Uq5qN6uYnXEU8p6mmM8pVK+vApUB6jliGoBVYwo",
  "HJeLKD2jtAmqlPSuRLO1kr+xvPIcHctjOs72pDytM3RsVUmJJK3ISeL+OWfdCiakqdxwX5xkgfVLHFjjTT9PJM79X0dZ8knYm7fUKfNPo5FnKcS3",
  "IN7y1OXBM08e0y51vJ6wOdSNE53W6DMu+oNA0e5LilnNhXOnS6EdhOjtTkJ7oYzbT2vUZ5K7McOR7bGgqceDRhKg4g+8wFMxx8FLymQ/dFIuFtBu",
  "o0aPuQ/EAXWE67Ah8nAQ4gagHFSAkJ7/HKnfQ7wV8FuOwg5mMUgVcJTVqOlJyc3A6AmmuKKHNQph3eeG8iVnFogCbVUAtwja1dogEVIFj5qh3WUO",
  "GgRzg8QX3OhxFYCuk6qOxlmgjBFnknNG+TJ0+Tn9koPzgAy4BJn09JCaOK9vokfqO9vtGnU4c8Ermt6sd6CuaZ26vlPTGs16u4kGcoWcXdoTZggF",
  "FwfyH+3qeguNBfMO2jv15t12rb1d13T8bW63D6fXoCfwL7AI1w8DQ5kMvA46NLR2R2+nzS+49AzfEy7op4Ea1GbPuTRi5nE3+pFl3PidnefEI+EK",
  "NYAlAMOZaYaSmc9R6F2UBz45YTaoj3UoYCw4QmvABwzDWwHMEOAqlVYrJfVMHAU2D8gFrqbZbYMUDbAm2k3l+zwNge+Fy5kkX0wcZTP92b0DT9SL",
  "Df4WT5X4LhPv0psrEJ3OJU6KW6MsbzQiO9Z/nLSCJslhPxmhvVVLzRlLb2QX9UUd/lfeCbszTpi6ijRedxW56haquRbq/98NbzFOuexTZzHS8ZD/",
  "efIpRM9ITtNT386mTsdclYjW/+PlenFWLuyllTT/p6fOVd+QT2fz7iIeJu+A2dolzF5csKZX9QejN+VV92l/rk+1Nwild2pPae94cJ2LPyxGxJyn",
  "7ZczkNsiV1TDR/PEir4OI4ltqawoeHHCQ3P1iXcUwJt1AoOcwCBinKQwhTQgtTLVtpIgI+sROpFyNS/AFaMaF+W6uKxJrKV1SdmT3Jez97Kav02Z",
  "MQLW+m5pjLqZ4EnN78pLyeef5JMgTHHEkBRhAh6kC2N0JC+hkzGj1/D+rfQ1/CHZLOUrG6RQyT0k+dInSSn0PiJJFFfeJ9dLucpaOoTsFclS+br8",
  "e5lk81X+Wn459lJ3Q9uuTeIIz4QVDPANr7dPEZBxYdcgmvESaNsLJbzZHz/YQ6xGej5UEOCBTVYbAz4ge9YoH4ojfN+n73c6hoTswICx30kUxI42",
  "+AgG2UlRkE4LGLKfw0g7FWnmMBMRoQjJYg6QOnT2PdviLnb7woxeqohN9SWzBKh8525n2Gmh2gNuQoa/024Mt9sIenlC8TvN5rDVgJoUbl/dAS2H",
  "UBCP8sWQ28pIsbQDhMaSf9CbpJPuwUEDzYp+UdERGBJ73GY9mAXZUYgGBYG7JhRUCdXoQNmGsgPlLo2hk5h3hMqBKKjoOMU8CG8ctUNMxxQKrs5Q",
  "B41wamjxpIWazIV4wI1GD/83z/WkM4MFUZPZoiejGzlCkdFCXwyC8rk0zAFz4ZCl3UCGHPx4LCC2Dg5TMDMBqHZmYT56epiBSbF/RvDn6em/lAu0",
  "Lw==",
].join("");
