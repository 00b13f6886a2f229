// The deployed local discovery (ssb-local) with hardly a server around it: announces ADDRESS as ID, and prints what it
// hears, and who comes to its port.
// node neighbour.js ID ADDRESS
'use strict'

const net = require('net')
const local = require('ssb-local')

const [id, address] = process.argv.slice(2)

local.init({
  id,
  getAddress: () => address,
  gossip: {
    add: (heard) => console.log(JSON.stringify({ heard: heard.toString() })),
    remove: () => {}
  },
  status: { hook: () => {} }
}, { port: 8008 })

net.createServer((caller) => {
  console.log(JSON.stringify({ caller: caller.remoteAddress }))
  caller.destroy()
}).listen(8008, '0.0.0.0', () => console.log(JSON.stringify({ event: 'ready' })))
process.stdin.on('end', () => process.exit(0)).resume()
