#!/usr/bin/env node
'use strict'
// Secret handshake, box stream and muxrpc by their npm packages alone, no node around them.
// listen {mode: "echo"|"rpc", seed, networkKey, refuse?} -> {port, public}
// dial   {mode: "echo"|"rpc", seed, networkKey, port, remote, …} -> what came of it
// Keys are base64; `seed` makes the ed25519 key pair.
const { tell, serve, promised } = require('./lib/console')
const crypto = require('crypto')
const net = require('net')
const pull = require('pull-stream')
const muxrpc = require('muxrpc')
const secretHandshake = require('secret-handshake')
const sodium = require('sodium-native')
const { createRequire } = require('module')
const toPull = createRequire(require.resolve('multiserver'))('stream-to-pull-stream')

const TIMEOUT = 5000
const bytes = (base64) => Buffer.from(base64, 'base64')

function keyPair (seed) {
  const publicKey = Buffer.alloc(32)
  const secretKey = Buffer.alloc(64)
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, bytes(seed))
  return { publicKey, secretKey }
}

const manifest = {
  echo: 'async',
  binary: 'async',
  fail: 'async',
  never: 'async',
  range: 'source',
  ticks: 'source',
  breaks: 'source',
  sum: 'sink',
  double: 'duplex',
  in: { nested: { place: 'sync' } }
}

const api = {
  echo: (value, cb) => cb(null, value),
  binary: (size, cb) => cb(null, Buffer.alloc(size, 0x07)),
  fail: (text, cb) => cb(new Error(text)),
  never: () => {},
  range: (count) => pull.count(count - 1),
  // Without an end, but it lets the event loop turn: muxrpc has no flow control to stop a faster one.
  ticks: () => pull(pull.infinite(() => 'tick'), pull.asyncMap((tick, cb) => setImmediate(cb, null, tick))),
  breaks: (text) => {
    let sent = false
    return (abort, cb) => {
      if (abort) return cb(abort)
      if (sent) return cb(new Error(text))
      sent = true
      cb(null, 'one item')
    }
  },
  sum: () => pull.reduce((total, n) => total + n, 0, (err, total) => {
    tell({ notice: 'sum', value: err ? String(err.message) : total })
  }),
  double: () => {
    const through = pull.map((n) => (typeof n === 'number' ? n * 2 : n))
    let source = null
    let waiting = null
    return {
      sink: (read) => {
        source = through(read)
        if (waiting) source(...waiting)
      },
      source: (abort, cb) => {
        if (source) source(abort, cb)
        else waiting = [abort, cb]
      }
    }
  },
  in: { nested: { place: () => 'found' } }
}

// Calls every kind of method that `manifest` names on the other side.
async function exercise (remote) {
  const collected = (source, n = Infinity) => promised((cb) => pull(source, pull.take(n), pull.collect(cb)))
  // No empty string: a frame without a body is the goodbye.
  const values = [0, -1.5, 'text', 'ü🦀\u2028', null, true, [], { a: [1, { b: null }] }, 'x'.repeat(20000)]
  const echoed = []
  for (const value of values) echoed.push(await promised((cb) => remote.echo(value, cb)))
  const doubled = promised((cb) => {
    const stream = remote.double()
    pull(pull.values([1, 2, 3, 'four', { five: 5 }]), stream.sink)
    pull(stream.source, pull.collect(cb))
  })
  await promised((cb) => pull(pull.values([1, 2, 3, 4]), remote.sum(cb)))
  return {
    echo: JSON.stringify(echoed) === JSON.stringify(values),
    binary: Buffer.alloc(70000, 0x07).equals(await promised((cb) => remote.binary(70000, cb))),
    fail: await promised((cb) => remote.fail('on purpose', cb)).catch((err) => err.message),
    range: (await collected(remote.range(1000))).reduce((a, b) => a + b, 0),
    someOfRange: await collected(remote.range(100000), 3),
    breaks: await collected(remote.breaks('broken')).catch((err) => err.message),
    double: await doubled,
    nested: await promised((cb) => remote.in.nested.place(cb)),
    parallel: (await Promise.all(Array.from({ length: 200 }, (_, i) => promised((cb) => remote.echo(i, cb))))).length
  }
}

// Sends `size` bytes in pieces of uneven length and compares what comes back.
function bounce (stream, size) {
  const sent = crypto.createHash('sha256')
  const received = crypto.createHash('sha256')
  const pieces = []
  for (let made = 0, i = 0; made < size; i++) {
    const length = Math.min(size - made, [1, 7, 4095, 4096, 4097, 65536, 20000][i % 7])
    const piece = crypto.createHash('shake256', { outputLength: length }).update(String(i)).digest()
    sent.update(piece)
    pieces.push(piece)
    made += length
  }
  let total = 0
  return promised((cb) => {
    pull(pull.values(pieces), stream.sink)
    pull(stream.source, pull.drain((data) => {
      total += data.length
      received.update(data)
    }, (err) => cb(err, { total, equal: sent.digest('hex') === received.digest('hex') })))
  })
}

function attach (stream, mode) {
  if (mode === 'echo') return pull(stream.source, stream.sink)
  const rpc = muxrpc(manifest, manifest, api)
  pull(stream, rpc.stream, stream)
  return rpc
}

const servers = new Set()

serve({
  listen: ({ mode, seed, networkKey, refuse }) => promised((cb) => {
    const keys = keyPair(seed)
    const accept = secretHandshake.createServer(keys, (id, done) => done(null, !refuse), bytes(networkKey), TIMEOUT)
    const server = net.createServer((socket) => {
      const raw = toPull.duplex(socket)
      pull(raw.source, accept((err, stream) => {
        tell({ notice: 'accepted', error: err ? String(err.message) : null, remote: err ? null : stream.remote.toString('base64') })
        if (!err) attach(stream, mode)
      }), raw.sink)
    })
    servers.add(server)
    server.listen(0, '127.0.0.1', () => cb(null, { port: server.address().port, public: keys.publicKey.toString('base64') }))
  }),
  dial: async ({ mode, seed, networkKey, port, remote, size }) => {
    const dial = secretHandshake.createClient(keyPair(seed), bytes(networkKey), TIMEOUT)
    const socket = net.connect(port, '127.0.0.1')
    const raw = toPull.duplex(socket)
    const stream = await promised((cb) => pull(raw.source, dial(bytes(remote), cb), raw.sink))
    if (mode === 'echo') return bounce(stream, size)
    const rpc = attach(stream, mode)
    const result = await exercise(rpc)
    await promised((cb) => rpc.close(true, () => cb()))
    return result
  }
}, () => process.exit(0))
tell({ notice: 'ready' })
