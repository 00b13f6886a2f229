#!/usr/bin/env node
'use strict'
// A local program of the old sbot: ssb-client, attached to a running node with the node's own key.
// attach {dir, remote, networkKey} -> the node's id; call {method, args, kind, take} -> result
const { tell, serve, promised } = require('./lib/console')
const path = require('path')
const pull = require('pull-stream')
const ssbClient = require('ssb-client')
const ssbKeys = require('ssb-keys')

let node = null

serve({
  attach: async ({ dir, remote, networkKey }) => {
    const keys = ssbKeys.loadSync(path.join(dir, 'secret'))
    // no manifest given: it asks the node for its own, as most programs do
    node = await promised((cb) => ssbClient(keys, { path: dir, remote, caps: { shs: networkKey }, timers: { handshake: 5000 } }, cb))
    return node.id
  },
  call: async ({ method, args = [], kind = 'async', take = Infinity }) => {
    const parts = method.split('.')
    const last = parts.pop()
    const owner = parts.reduce((object, part) => object[part], node)
    if (typeof owner[last] !== 'function') throw new Error('not in the manifest: ' + method)
    if (kind === 'source') return promised((cb) => pull(owner[last](...args), pull.take(take), pull.collect(cb)))
    return promised((cb) => owner[last](...args, cb))
  },
  close: () => promised((cb) => node.close(true, () => cb()))
}, () => process.exit(0))
tell({ notice: 'ready' })
