'use strict'
// Feeds made and signed by the JavaScript library itself, with every form that JSON.stringify of V8
// and the deployed validators let through and that a second implementation is likely to get wrong.
const crypto = require('crypto')
const ssbKeys = require('ssb-keys')

const digest = (text) => crypto.createHash('sha256').update(text).digest()
const link = (text) => '%' + digest(text).toString('base64') + '.sha256'

// Left out on purpose, since the peers themselves cannot pass such messages on: a nested `__proto__` key is lost
// in both stores, null among the mentions sends ssb-server's link index into an endless rebuild.
const parsed = JSON.parse

const contents = [
  (f) => ({ type: 'about', about: f.id, name: 'odd ' + f.id.slice(1, 7) }),
  () => ({ type: 'post', text: 'naïve привет 日本語 🦀 \u2028\u2029 "q" \\ / \b\f\n\r\t \u0000\u001f\u007f\u0080 \uffff' }),
  (f) => ({ type: 'vote', channel: null, vote: { link: link(f.id), value: 1, expression: '❤' } }),
  () => ({ type: 'numbers', list: [1e21, 1e20, 123456789012345680000, 1e-6, 1e-7, 0.1 + 0.2, 2 ** 53, 2 ** 53 + 2, -0, 5e-324, 1.7976931348623157e308, -1.5e-9, 1e16, 4.35, 100] }),
  () => parsed('{"type":"number text","a":1.0,"b":1e3,"c":-0,"d":1E21,"e":0.10,"f":123456789012345678901234567890,"g":1e-400}'),
  () => parsed('{"10":"ten","type":"index keys","2":"two","b":1,"01":"text","-1":"text","4294967294":"last index","4294967295":"text","a":{"9":1,"z":2,"1":3},"1.5":0}'),
  () => ({ type: 'names', in: { constructor: 2, toString: 'x', hasOwnProperty: null }, '': 'empty key', '\u0000': 'zero key', é: 1 }),
  () => ({ type: 'empties', object: {}, list: [], text: '', none: null, yes: true, no: false, holes: [[], {}, [[]], [{}]] }),
  () => ({ type: 'deep', tree: Array(40).fill().reduce((inner) => [inner], 'leaf') }),
  () => ({ type: 'deep too', tree: Array(40).fill().reduce((inner) => ({ k: inner }), null) }),
  () => ({ type: 'abc' }),
  () => ({ type: 't'.repeat(52) }),
  (f) => ssbKeys.box({ type: 'post', text: 'for us two', recps: [f.id, f.friend.id] }, [f.id, f.friend.id]),
  () => 'AAAA'.repeat(20) + '.box2',
  () => ({ type: 'post', text: '</script>&<!-- \u00a0\u200b\u202e\ufeff e\u0301 👩‍👩‍👧' }),
  () => ({ type: 'post', text: 'x', mentions: [1, { link: 'not a link' }, { link: link('m') }], root: link('r'), branch: [link('b')] })
]

// Only for stores that keep text: ssb-db2 stores strings as UTF-8, where a lone surrogate does not survive.
const surrogates = [
  () => ({ type: 'post', text: 'lone \ud800 and \udc00, pair \ud83e\udd80, wrong order \udd80\ud83e' }),
  () => ({ type: 'lone key', '\ud800': 1, a: ['\udfff'] })
]

const timestamps = [1600000000000, 1600000000000.25, 0, -1, 1e-7, 4102444800000, 1600000000000.125, 1e21, 1.5]

function sign (feed, content) {
  const value = { previous: feed.previous }
  // Both orders of these two exist in the network.
  if (feed.sequence % 3 === 2) Object.assign(value, { author: feed.id, sequence: feed.sequence + 1 })
  else Object.assign(value, { sequence: feed.sequence + 1, author: feed.id })
  const timestamp = timestamps[feed.sequence % timestamps.length]
  Object.assign(value, { timestamp, hash: 'sha256', content })
  const signed = ssbKeys.signObj(feed.keys, value)
  feed.previous = '%' + ssbKeys.hash(JSON.stringify(signed, null, 2))
  feed.sequence++
  return signed
}

// A post that brings the whole signed text to exactly the limit of 8192 UTF-16 units.
function largest (feed) {
  const frame = sign({ ...feed }, { type: 'post', text: '' })
  const room = 8192 - JSON.stringify(frame, null, 2).length
  return { type: 'post', text: '海'.repeat(Math.floor(room / 2)) + 'x'.repeat(room - Math.floor(room / 2)) }
}

// -> list of values, each feed's in order. The same seed gives the same feeds but for the boxes' keys.
module.exports = function oddFeeds ({ seed, feeds, each, loneSurrogates }) {
  const makers = [...contents, largest, ...(loneSurrogates ? surrogates : [])]
  const friend = ssbKeys.generate('ed25519', digest(seed + ' friend'))
  const values = []
  for (let i = 0; i < feeds; i++) {
    const keys = ssbKeys.generate('ed25519', digest(seed + ' ' + i))
    const feed = { keys, id: keys.id, friend, previous: null, sequence: 0 }
    for (let k = 0; k < each; k++) values.push(sign(feed, makers[(i + k) % makers.length](feed)))
  }
  return values
}
