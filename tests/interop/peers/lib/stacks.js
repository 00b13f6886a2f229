'use strict'
// The two deployed JavaScript stacks behind one small interface:
//   "server"  ssb-server 16 with the plugins of its time (flumedb, ssb-ebt 5, ssb-replicate, ssb-gossip)
//   "db2"     secret-stack 6 with ssb-db2 8, ssb-ebt 9, ssb-conn 6
// Loopback only, no discovery, no dialling of pubs that messages speak of.
const path = require('path')
const { createRequire } = require('module')
const ssbKeys = require('ssb-keys')
const caps = require('ssb-caps')
const { promised } = require('./console')

const HOST = '127.0.0.1'

function settings (o, keys) {
  return {
    path: o.dir,
    keys,
    host: HOST,
    port: o.port,
    caps: { shs: o.networkKey || caps.shs, ...(o.hmacKey ? { sign: o.hmacKey } : {}) },
    connections: {
      incoming: {
        net: [{ scope: o.invites ? 'private' : 'device', transform: 'shs', host: HOST, port: o.port }],
        ...(o.wsPort ? { ws: [{ scope: 'device', transform: 'shs', host: HOST, port: o.wsPort }] } : {}),
        ...(o.room ? { tunnel: [{ scope: 'public', transform: 'shs' }] } : {})
      },
      outgoing: { net: [{ transform: 'shs' }], ...(o.wsPort ? { ws: [{ transform: 'shs' }] } : {}), ...(o.room ? { tunnel: [{ transform: 'shs' }] } : {}) }
    },
    timers: { connection: 0, reconnect: 5000, ping: 5 * 60e3, handshake: 15e3, inactivity: 10 * 60e3 },
    timeout: 0,
    friends: { dunbar: 150, hops: o.hops },
    logging: { level: 'error' }
  }
}

// WebSockets by multiserver's own plugin, as nodes with ssb-ws have them.
const webSockets = {
  name: 'web-sockets',
  version: '1.0.0',
  manifest: {},
  init: (ssb) => ssb.multiserver.transport({ name: 'ws', create: require('multiserver/plugins/ws') })
}

class Peer {
  constructor (ssb, keys, o) {
    this.ssb = ssb
    this.keys = keys
    this.address = `net:${HOST}:${o.port}~shs:${keys.public.replace('.ed25519', '')}`
  }

  links () { return Object.values(this.ssb.peers).flat() }

  link (id) {
    const found = this.links().find((rpc) => id === undefined || rpc.id === id)
    if (found === undefined) throw new Error('not connected')
    return found
  }

  dial (address) { return promised((cb) => this.ssb.connect(address, cb)) }

  hangUp () { return Promise.all(this.links().map((rpc) => promised((cb) => rpc.close(true, () => cb())))) }

  clock () { return promised((cb) => this.ssb.getVectorClock(cb)) }

  async close () {
    await Promise.race([this.hangUp(), new Promise((resolve) => setTimeout(resolve, 500))])
    await promised((cb) => this.ssb.close(true, () => cb()))
  }
}

class ServerPeer extends Peer {
  static start (o, keys) {
    // ssb-server brings older copies of some plugins in its own node_modules: resolve from there.
    const nested = createRequire(require.resolve('ssb-server'))
    // Not ssb-query and ssb-links: indexes for applications, which cost half of the CPU and touch no wire.
    const plugins = ['ssb-private1', 'ssb-master', 'ssb-gossip', 'ssb-replicate', 'ssb-friends', 'ssb-blobs']
    if (o.ebt) plugins.push('ssb-ebt')
    plugins.push('ssb-ooo')
    if (o.invites) plugins.push('ssb-invite')
    const stack = require('ssb-server')
    for (const name of plugins) stack.use(nested(name))
    if (o.wsPort) stack.use(webSockets)
    const ssb = stack({
      ...settings(o, keys),
      gossip: { connections: 3, autopopulate: false, pub: false, local: false, friends: false, seed: false, global: false },
      replicate: { legacy: true, fallback: o.ebt },
      allowPrivate: true, // invites lead to loopback here
      master: []
    })
    return new ServerPeer(ssb, keys, o)
  }

  onMessage (fn) { this.ssb.post((kvt) => { if (kvt) fn(kvt) }) }

  publish (content, recps) {
    return promised((cb) => this.ssb.publish(recps ? { ...content, recps } : content, cb))
  }

  // One add a message, a thousand under way: its validator queues them.
  async load (values) {
    let next = 0
    const worker = async () => {
      while (next < values.length) {
        const value = values[next++]
        await promised((cb) => this.ssb.add(value, cb))
      }
    }
    await Promise.all(Array.from({ length: 1000 }, worker))
  }

  want (feed, wanted) { this.ssb.replicate.request(feed, wanted) }

  dialManaged (address) { return promised((cb) => this.ssb.gossip.connect(address, cb)) }

  // Every value stored, as {key, value}, in the order of arrival.
  each (fn) {
    const pull = require('pull-stream')
    return promised((cb) => pull(this.ssb.createLogStream({ keys: true, private: false }), pull.drain((kvt) => fn(kvt), (err) => cb(err))))
  }

  async settled () {
    await this.clock()
    while (!this.ssb.status().sync.sync) await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

class Db2Peer extends Peer {
  static start (o, keys) {
    const plugins = ['ssb-db2/core', 'ssb-classic', 'ssb-box', 'ssb-db2/compat/publish', 'ssb-db2/compat/post',
      'ssb-db2/compat', 'ssb-db2/compat/feedstate', 'ssb-friends', 'ssb-conn', 'ssb-blobs']
    if (o.ebt) plugins.push('ssb-ebt')
    if (o.room) plugins.push('ssb-room-client')
    if (o.scheduler) plugins.push('ssb-replication-scheduler')
    const config = settings(o, keys)
    const stack = require('secret-stack')({ caps: config.caps })
    for (const name of plugins) stack.use(require(name))
    if (o.wsPort) stack.use(webSockets)
    const ssb = stack({
      ...config,
      conn: { autostart: false, populatePubs: false },
      replicationScheduler: { autostart: Boolean(o.scheduler) },
      db2: {}
    })
    return new Db2Peer(ssb, keys, o)
  }

  onMessage (fn) { this.ssb.db.onMsgAdded((event) => { if (event && event.kvt) fn(event.kvt) }) }

  publish (content, recps) {
    const boxed = recps ? { recps, encryptionFormat: 'box' } : {}
    return promised((cb) => this.ssb.db.create({ keys: this.keys, content, feedFormat: 'classic', ...boxed }, cb))
  }

  // Whole runs of one author: its validator takes a batch of one feed.
  async load (values) {
    const feeds = new Map()
    for (const value of values) {
      if (!feeds.has(value.author)) feeds.set(value.author, [])
      feeds.get(value.author).push(value)
    }
    for (const run of feeds.values()) {
      for (let i = 0; i < run.length; i += 500) {
        await promised((cb) => this.ssb.db.addBatch(run.slice(i, i + 500), cb))
      }
    }
    await this.settled()
  }

  want (feed, wanted) { this.ssb.ebt.request(feed, wanted) }

  dialManaged (address) { return promised((cb) => this.ssb.conn.connect(address, cb)) }

  async each (fn) {
    await this.settled()
    const bipf = createRequire(require.resolve('ssb-db2/core'))('bipf')
    await promised((cb) => this.ssb.db.getLog().stream({ offsets: false, values: true, decrypt: false }).pipe({
      paused: false,
      write: (record) => { if (record) fn(bipf.decode(record, 0)) },
      end: (err) => cb(err)
    }))
  }

  // Its log is written up to 250 ms after a callback: without this wait a stop loses messages.
  async settled () {
    await promised((cb) => this.ssb.db.onDrain('base', () => cb()))
    await promised((cb) => this.ssb.db.getLog().onDrain(() => cb()))
  }
}

module.exports = function start (o) {
  const keys = ssbKeys.loadOrCreateSync(path.join(o.dir, 'secret'))
  return { server: ServerPeer, db2: Db2Peer }[o.stack].start(o, keys)
}
