#!/usr/bin/env node
'use strict'
// One JavaScript SSB node, driven over standard input and output (lib/console.js).
// usage: peer.js '{"stack": "server"|"db2", "dir": PATH, "networkKey"?, "hmacKey"? (server), "hops"?, "ebt"?, "scheduler"?, "ws"?, "room"? (db2: as a client)}'
// It first tells {"notice": "ready", "id", "address"}.
const { tell, lines, serve, promised } = require('./lib/console')
const tap = require('./lib/tap')
const crypto = require('crypto')
const fs = require('fs')
const net = require('net')
const pull = require('pull-stream')
const ssbKeys = require('ssb-keys')
const oddFeeds = require('./lib/odd-feeds')
const start = require('./lib/stacks')

const options = { hops: 1, ebt: true, scheduler: false, ...JSON.parse(process.argv[2]) }
fs.mkdirSync(options.dir, { recursive: true })

// The stacks take no port 0 (they draw a random one), so a free one is found first.
const freePort = () => new Promise((resolve, reject) => {
  const probe = net.createServer()
  probe.once('error', reject)
  probe.listen(0, '127.0.0.1', () => {
    const { port } = probe.address()
    probe.close(() => resolve(port))
  })
})

const shown = (value) => (Buffer.isBuffer(value) ? { base64: value.toString('base64') } : value)

function note (feeds, id, value) {
  feeds[value.author] = feeds[value.author] || []
  feeds[value.author].push([value.sequence, id, JSON.stringify(value)])
}

// {feed: [number of messages, SHA-256 over "id\nJSON text of the value\n" by sequence]}
function digests (feeds) {
  return Object.fromEntries(Object.entries(feeds).map(([feed, rows]) => {
    const hash = crypto.createHash('sha256')
    rows.sort((a, b) => a[0] - b[0])
    for (const [, id, text] of rows) hash.update(`${id}\n${text}\n`)
    return [feed, [rows.length, hash.digest('hex')]]
  }))
}

function method (root, name) {
  const parts = name.split('.')
  const last = parts.pop()
  const owner = parts.reduce((object, part) => object[part], root)
  return owner[last].bind(owner)
}

async function main () {
  const wsPort = options.ws ? await freePort() : undefined
  const peer = start({ ...options, port: await freePort(), wsPort })
  const have = {}
  const waiting = new Set()
  let watching = false

  const reached = (clock) => Object.entries(clock).every(([feed, sequence]) => (have[feed] || 0) >= sequence)
  const call = ({ on, method: name, args = [], kind = 'async', take = Infinity, send = [] }) => {
    // on: a feed id or true for the remote end of a connection, else this node itself
    const root = on ? peer.link(on === true ? undefined : on) : peer.ssb
    const run = method(root, name)
    if (kind === 'source') {
      return promised((cb) => pull(run(...args), pull.take(take), pull.map(shown), pull.collect(cb)))
    }
    if (kind === 'duplex') {
      return promised((cb) => {
        const stream = run(...args)
        pull(pull.values(send), stream.sink)
        pull(stream.source, pull.take(take), pull.map(shown), pull.collect(cb))
      })
    }
    return promised((cb) => run(...args, (err, value) => cb(err, shown(value))))
  }

  const commands = {
    publish: ({ content, recps }) => peer.publish(content, recps),
    publishMany: async ({ count, text }) => {
      let last
      for (let i = 1; i <= count; i++) last = await peer.publish({ type: 'post', text: `${text} ${i}` })
      return last
    },
    load: async ({ file }) => {
      const values = []
      await promised((cb) => lines(fs.createReadStream(file), (line) => values.push(JSON.parse(line)), cb))
      await peer.load(values)
      return values.length
    },
    makeOdd: async (request) => {
      const values = oddFeeds(request)
      await peer.load(values)
      const feeds = {}
      for (const value of values) note(feeds, '%' + ssbKeys.hash(JSON.stringify(value, null, 2)), value)
      return digests(feeds)
    },
    want: ({ feeds, wanted = true }) => {
      for (const feed of feeds) peer.want(feed, wanted)
      return feeds.length
    },
    dial: async ({ address, managed }) => (await (managed ? peer.dialManaged(address) : peer.dial(address))).id || true,
    // takes in a blob; its id
    addBlob: ({ base64 }) => promised((cb) => pull(pull.values([Buffer.from(base64, 'base64')]), peer.ssb.blobs.add(cb))),
    hangUp: () => peer.hangUp().then(() => true),
    links: () => peer.links().map((rpc) => rpc.id),
    clock: () => peer.clock(),
    // what was stored, by the notices of the store: {feed: sequence}
    have: () => have,
    // answers once this node has stored at least these sequences
    reach: ({ clock, ms }) => new Promise((resolve, reject) => {
      const check = () => {
        if (!reached(clock)) return
        done()
        resolve(true)
      }
      const timer = setTimeout(() => {
        done()
        const missing = Object.entries(clock).filter(([feed, sequence]) => (have[feed] || 0) < sequence)
        const [feed, sequence] = missing[0]
        reject(new Error(`${missing.length} feeds not reached in ${ms} ms, such as ${feed}: ${have[feed] || 0} of ${sequence}`))
      }, ms)
      const done = () => {
        clearTimeout(timer)
        waiting.delete(check)
      }
      waiting.add(check)
      check()
    }),
    watch: ({ on }) => { watching = on },
    digest: async () => {
      const feeds = {}
      await peer.each(({ key, value }) => note(feeds, key, value))
      return digests(feeds)
    },
    call,
    record: () => tap.start(),
    recorded: () => tap.stop(),
    settled: () => peer.settled(),
    stop: () => {
      setImmediate(end)
    }
  }

  let ending = false
  async function end () {
    if (ending) return
    ending = true
    setTimeout(() => process.exit(0), 4000).unref()
    await peer.settled().catch(() => {})
    await peer.close().catch(() => {})
    process.exit(0)
  }

  serve(commands, end)
  const ready = promised((cb) => peer.ssb.once('multiserver:listening', () => cb()))
  Object.assign(have, await peer.clock())
  peer.onMessage(({ key, value }) => {
    have[value.author] = Math.max(have[value.author] || 0, value.sequence)
    if (watching) tell({ notice: 'message', id: key, author: value.author, sequence: value.sequence })
    for (const check of [...waiting]) check()
  })
  peer.ssb.on('rpc:connect', (rpc, dialled) => {
    tell({ notice: 'connected', peer: rpc.id, dialled: Boolean(dialled) })
    rpc.once('closed', () => tell({ notice: 'closed', peer: rpc.id }))
  })
  await ready
  const ws = wsPort && `ws://127.0.0.1:${wsPort}~shs:${peer.keys.public.replace('.ed25519', '')}`
  tell({ notice: 'ready', id: peer.keys.id, address: peer.address, ws })
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
