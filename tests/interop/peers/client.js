#!/usr/bin/env node
'use strict'
// A local program of the old sbot: ssb-client, attached to a running node with the node's own key.
// attach {dir, remote, networkKey, ownManifest} -> the node's id; call {method, args, kind, take} -> result;
// a sink takes the bytes of `base64`; bytes that come out are {base64}
const { tell, serve, promised } = require('./lib/console')
const fs = require('fs')
const path = require('path')
const pull = require('pull-stream')
const ssbClient = require('ssb-client')
const ssbKeys = require('ssb-keys')

let node = null

serve({
  attach: async ({ dir, remote, networkKey, ownManifest }) => {
    const keys = ssbKeys.loadSync(path.join(dir, 'secret'))
    // no manifest given: it asks the node for its own, as most programs do; older ones read the file
    const manifest = ownManifest ? { manifest: JSON.parse(fs.readFileSync(path.join(dir, 'manifest.json'), 'utf8')) } : {}
    const config = { path: dir, remote, caps: { shs: networkKey }, timers: { handshake: 5000 }, ...manifest }
    node = await promised((cb) => ssbClient(keys, config, cb))
    return node.id
  },
  call: async ({ method, args = [], kind = 'async', take = Infinity, base64 }) => {
    const parts = method.split('.')
    const last = parts.pop()
    const owner = parts.reduce((object, part) => object[part], node)
    if (typeof owner[last] !== 'function') throw new Error('not in the manifest: ' + method)
    const shown = pull.map((item) => Buffer.isBuffer(item) ? { base64: item.toString('base64') } : item)
    if (kind === 'source') return promised((cb) => pull(owner[last](...args), pull.take(take), shown, pull.collect(cb)))
    if (kind === 'sink') return promised((cb) => pull(pull.values([Buffer.from(base64, 'base64')]), owner[last](...args, cb)))
    return promised((cb) => owner[last](...args, cb))
  },
  close: () => promised((cb) => node.close(true, () => cb()))
}, () => process.exit(0))
tell({ notice: 'ready' })
