// Files → an uncompressed .zip (PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16).

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

const crc32 = (bytes) => ~bytes.reduce((crc, byte) => CRC[(crc ^ byte) & 255] ^ (crc >>> 8), ~0) >>> 0;

/** Encode fields of [value, bytes], lowest byte first. */
function fields(...pairs) {
  return Uint8Array.from(
    pairs.flatMap(([value, size]) => Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 255)),
  );
}

/** Return a .zip as a Blob; `files` are { name, bytes }, with "/" between folders in a name. */
export function zip(files, now = new Date()) {
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, bytes } of files) {
    const path = new TextEncoder().encode(name);
    // Version 2.0, name in UTF-8, stored, time, date, checksum, size twice, length of name, no extra.
    const about = fields(
      [20, 2], [1 << 11, 2], [0, 2], [time, 2], [date, 2],
      [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4], [path.length, 2], [0, 2],
    );
    parts.push(fields([0x04034b50, 4]), about, path, bytes);
    directory.push(
      fields([0x02014b50, 4], [20, 2]), about,
      fields([0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), path,
    );
    offset += 4 + about.length + path.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = fields(
    [0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
