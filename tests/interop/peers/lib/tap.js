'use strict'
// Notes every muxrpc frame of this process while recording is on. It takes the place of the framing
// codec, so it sees what goes to and comes from the wire, and must be loaded before the stack is.
const codecFile = require.resolve('packet-stream-codec')
const codec = require(codecFile)

let recording = null
let links = 0

function subject (body) {
  if (Buffer.isBuffer(body)) return { what: 'binary' }
  if (body === null || typeof body !== 'object') return { what: 'value' }
  if (Array.isArray(body.name)) return { what: 'call', name: body.name.join('.') }
  const value = body.value !== undefined && body.key !== undefined ? body.value : body
  if (typeof value.author === 'string' && value.sequence > 0) {
    return { what: 'message', author: value.author, sequence: value.sequence }
  }
  const keys = Object.keys(body)
  if (keys.every((key) => key[0] === '@')) return { what: 'notes', feeds: keys.length }
  return { what: 'object' }
}

// `calls` knows the method of each request of this connection; ours and theirs are numbered apart.
function note (link, calls, way, frame) {
  if (frame === 'GOODBYE') {
    if (recording !== null) recording.push({ link, way, what: 'goodbye' })
    return
  }
  const ours = (way === 'out') === (frame.req > 0)
  const number = `${ours ? 'ours' : 'theirs'} ${Math.abs(frame.req)}`
  const body = frame.value === undefined ? frame.end : frame.value
  const about = subject(body)
  if (about.what === 'call') calls.set(number, about.name)
  if (recording !== null) {
    recording.push({ link, way, method: calls.get(number), request: frame.req, end: Boolean(frame.end), ...about })
  }
}

function tapped (stream, debug) {
  const link = ++links
  const calls = new Map()
  const watched = (way, read) => (abort, cb) => read(abort, (end, frame) => {
    if (!end) note(link, calls, way, frame)
    cb(end, frame)
  })
  return codec({
    source: watched('out', stream.source),
    sink: (read) => stream.sink(watched('in', read))
  }, debug)
}

require.cache[codecFile].exports = Object.assign(tapped, codec)

module.exports = {
  start () { recording = [] },
  stop () {
    const frames = recording || []
    recording = null
    return frames
  }
}
