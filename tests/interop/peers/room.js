#!/usr/bin/env node
'use strict'
// The room server ssb-room 1 without its web pages, on a loopback port of its own choice.
// usage: room.js '{"dir": PATH, "networkKey": BASE64, "name"?: TEXT}'
// It first tells {"notice": "ready", "id", "address"}; the command "peers" tells who is connected.
const { serve, tell } = require('./lib/console')
const fs = require('fs')
const net = require('net')
const path = require('path')
const { createRequire } = require('module')

const room = createRequire(require.resolve('./room/node_modules/ssb-room/package.json'))
const options = JSON.parse(process.argv[2])
fs.mkdirSync(options.dir, { recursive: true })
if (options.name) fs.writeFileSync(path.join(options.dir, 'roomcfg'), JSON.stringify({ name: options.name }))

const probe = net.createServer()
probe.listen(0, '127.0.0.1', () => {
  const { port } = probe.address()
  probe.close(() => start(port))
})

function start (port) {
  const keys = require('ssb-keys').loadOrCreateSync(path.join(options.dir, 'secret'))
  const host = '127.0.0.1'
  const ssb = room('secret-stack')({ appKey: options.networkKey })
    .use(room('ssb-master'))
    .use(room('ssb-conn'))
    .use(room('./tunnel/server'))
    .call(null, {
      path: options.dir,
      keys,
      host,
      port,
      caps: { shs: options.networkKey },
      appKey: options.networkKey,
      conn: { autostart: false },
      connections: {
        incoming: { net: [{ scope: 'public', transform: 'shs', host, port }] },
        outgoing: { net: [{ transform: 'shs' }] }
      },
      timers: { connection: 0, reconnect: 5000, ping: 5 * 60e3, handshake: 15e3, inactivity: 10 * 60e3 },
      timeout: 0
    })
  const end = () => {
    setTimeout(() => process.exit(0), 2000).unref()
    ssb.close(true, () => process.exit(0))
  }
  serve({ peers: () => Object.keys(ssb.peers), stop: () => { setImmediate(end) } }, end)
  ssb.once('multiserver:listening', () => {
    tell({ notice: 'ready', id: keys.id, address: `net:${host}:${port}~shs:${keys.public.replace('.ed25519', '')}` })
  })
}
