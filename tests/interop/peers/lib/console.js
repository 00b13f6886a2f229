'use strict'
// The line protocol every script here speaks with the test that started it.
// In:  one JSON object a line, {"n": 1, "do": "publish", ...arguments}.
// Out: {"n": 1, "ok": result} or {"n": 1, "error": "text"}; unasked: {"notice": "message", ...}.
// Standard output carries nothing else, so whatever a library prints is sent to standard error.
const fs = require('fs')

console.log = console.info = console.debug = (...parts) => console.error(...parts)

const nap = new Int32Array(new SharedArrayBuffer(4))

// Written synchronously: an answer must be out before an exit, and a full pipe is waited for.
function tell (object) {
  let rest = Buffer.from(JSON.stringify(object) + '\n')
  while (rest.length > 0) {
    try {
      rest = rest.subarray(fs.writeSync(1, rest))
    } catch (err) {
      if (err.code !== 'EAGAIN') throw err
      Atomics.wait(nap, 0, 0, 1)
    }
  }
}

// Cuts at 0x0a only: JSON.stringify leaves U+2028 as it is, and readline would cut there too.
function lines (stream, each, end) {
  let pieces = []
  stream.on('data', (chunk) => {
    let start = 0
    let stop
    while ((stop = chunk.indexOf(0x0a, start)) !== -1) {
      pieces.push(chunk.subarray(start, stop))
      each(Buffer.concat(pieces).toString('utf8'))
      pieces = []
      start = stop + 1
    }
    if (start < chunk.length) pieces.push(chunk.subarray(start))
  })
  stream.on('end', () => {
    if (pieces.length > 0) each(Buffer.concat(pieces).toString('utf8'))
    if (end) end()
  })
}

// `commands[name](request)` returns a value or a promise. `end` runs when standard input closes:
// the test is gone, and this process must be too.
function serve (commands, end) {
  const reason = (err) => String((err && err.message) || err)
  process.on('uncaughtException', (err) => {
    console.error(err)
    tell({ notice: 'uncaught', error: reason(err) })
  })
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, end)
  lines(process.stdin, async (line) => {
    const request = JSON.parse(line)
    try {
      const command = commands[request.do]
      if (command === undefined) throw new Error('unknown command ' + request.do)
      const result = await command(request)
      tell({ n: request.n, ok: result === undefined ? null : result })
    } catch (err) {
      tell({ n: request.n, error: reason(err) })
    }
  }, end)
}

// A function that takes (…, callback) as a promise.
const promised = (run) => new Promise((resolve, reject) => {
  run((err, value) => (err ? reject(err) : resolve(value)))
})

module.exports = { tell, lines, serve, promised }
