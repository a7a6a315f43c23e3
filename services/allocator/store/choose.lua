-- Which number an item gets. Invariant: no number is chosen on which a party of the item is or rests
-- (but by stickiness, for the very parties it was last bound for), that rests itself, is locked,
-- reserved (but by name) or in a block that is not active; an item is refused only if there is none.

local LOOK = 64 -- a party on more numbers in use than these is rare, and needs fresh ones anyway
local STEPS = 10000 -- of all items of one function; then the rest is put off: 10 to 30 ms

local function held_by(c, item, numbers)
  local held = {}
  for _, tag in ipairs(item.tags) do
    local scores = redis.call('ZMSCORE', c.base .. 'tag:' .. tag, unpack(numbers))
    for at, score in ipairs(scores) do
      if score and (score == 'inf' or tonumber(score) > c.now) then
        held[at] = true
      end
    end
  end
  return held
end

-- The first number that the item may have, of at most `most` in the order of the heads.
local function scan(c, pool, kind, scope, item, most)
  local heads, left = heads_key(c, kind, pool, scope), most
  local place, size = 0, 8
  while left > 0 do
    local block
    if kind == 'open' then
      block = redis.call('ZREVRANGE', heads, place, place)[1]
    else
      block = redis.call('ZRANGEBYSCORE', heads, '-inf', whole(c.now), 'LIMIT', place, 1)[1]
    end
    if not block then
      return nil
    end
    place = place + 1
    local from, found = 0, nil
    repeat
      local source = c.base .. kind .. ':' .. block
      size = math.min(left, size * 2)
      if kind == 'open' then
        found = redis.call('ZREVRANGE', source, from, from + size - 1)
      else
        found = redis.call('ZRANGEBYSCORE', source, '-inf', whole(c.now), 'LIMIT', from, size)
      end
      c.steps = c.steps + #found + 1
      local held = #found > 0 and held_by(c, item, found)
      for at, number in ipairs(found) do
        if not held[at] and not item.skip[number] then
          return number
        end
      end
      from, left = from + #found, left - math.max(1, #found)
    until #found < size or left <= 0
  end
end

-- The next number of the windows that nobody touched. One that binding has just refused is left to
-- rest: it is in use, and the store does not know (any more).
local function fresh(c, windows, item, scope)
  for _, window in ipairs(windows) do
    if window.serves[scope] then
      while window.cursor < window.stop do
        local number = window.numbers[window.cursor - window.start + 1]
        window.cursor = window.cursor + 1
        local n = number_load(c, window.holder, number)
        if not n.touched then
          if not item.skip[number] then
            return n
          end
          n.till = n.pool.shared and 0 or c.now + n.pool.cooling
          number_save(c, n)
        end
      end
    end
  end
end

-- Numbers whose rest has ended since the last look are free from now on.
local function ripen(c, block)
  local last = redis.call('HGET', block.key, 'ripe') or '0'
  for _, number in ipairs(redis.call('ZRANGEBYSCORE', block.rest, '(' .. last, whole(c.now))) do
    redis.call('SETBIT', block.free, serial_of(number), 1)
  end
  redis.call('HSET', block.key, 'ripe', whole(c.now))
end

-- Any number of the block that the item may have, by bits: the cost is that of the block, however many
-- numbers the parties are on.
local function unheld(c, block, item)
  ripen(c, block)
  local left, held = c.base .. 'scratch:left', c.base .. 'scratch:held'
  if redis.call('BITOP', 'AND', left, block.free) == 0 then
    return nil
  end
  local function without(number)
    if string.sub(number, 1, 11) == block.id then
      redis.call('SETBIT', left, serial_of(number), 0)
    end
  end
  for at, tag in ipairs(item.tags) do
    if item.few[at] then
      for _, number in ipairs(item.few[at]) do
        without(number)
      end
    elseif redis.call('BITOP', 'NOT', held, c.base .. 'bits:' .. tag .. ':' .. block.id) > 0 then
      redis.call('BITOP', 'AND', left, left, held)
    end
  end
  for number in pairs(item.skip) do
    without(number)
  end
  local serial = redis.call('BITPOS', left, 1)
  redis.call('DEL', left, held)
  return serial >= 0 and block.id .. string.format('%04d', serial)
end

-- Looks at every number of the scope, block by block: what neither the heads' first nor fresh numbers
-- could give. Without parties to avoid the first that is ready will do.
local function search(c, pool, scope, item)
  if #item.tags == 0 then
    return scan(c, pool, 'rest', scope, item, item.skips + 1)
      or pool.shared and scan(c, pool, 'open', scope, item, item.skips + 1)
  end
  local number = scan(c, pool, 'rest', scope, item, LOOK)
  if number then
    return number
  end
  if not item.few then
    item.few = {}
    for at, tag in ipairs(item.tags) do
      item.few[at] = tag_few(c, tag)
    end
  end
  for _, kind in ipairs(pool.shared and {'open', 'rest'} or {'rest'}) do
    for _, digits in ipairs(redis.call('ZRANGE', heads_key(c, kind, pool, scope), 0, -1)) do
      if not item.searched[digits] then
        item.searched[digits] = true
        c.steps = c.steps + 16
        number = unheld(c, block_load(c, digits), item)
        if number then
          return number
        end
      end
    end
  end
end

-- At random among those that are ready, or nil where a few draws do not find one that may be had.
local function drawn(c, pool, scope, item)
  for _ = 1, 8 do
    local digits = redis.call('ZRANDMEMBER', heads_key(c, pool.shared and 'open' or 'rest', pool, scope))
    local block = digits and block_load(c, digits)
    local number
    if block and pool.shared then
      number = redis.call('ZRANDMEMBER', block.open)
    elseif block then
      local ready = redis.call('ZCOUNT', block.rest, '-inf', whole(c.now))
      if ready > 0 then
        item.seed = (item.seed * 16807 + 11) % 2147483647
        local place = item.seed % ready
        number = redis.call('ZRANGE', block.rest, place, place)[1]
      end
    end
    c.steps = c.steps + 1
    if number and not item.skip[number] and not held_by(c, item, {number})[1] then
      return number
    end
  end
end

-- A number of the scope. Fullest first, so that a shared pool keeps few numbers in use; then fresh
-- ones, in the walk's order; then those used before, oldest first.
-- A party that is on the fullest LOOK numbers gets a fresh one while there are any: it needs as many
-- numbers as it has bindings anyway, and a lease stays cheap. Only then every number is looked at.
local function choose_in(c, pool, windows, item, scope)
  local number = item.seed and drawn(c, pool, scope, item)
  if not number and pool.shared then
    number = scan(c, pool, 'open', scope, item, LOOK)
  end
  if not number then
    local n = fresh(c, windows, item, scope)
    if n then
      return n
    end
    if pool.more(scope) then
      return nil, true
    end
    number = search(c, pool, scope, item)
  end
  return number and number_load(c, block_of(c, number), number)
end

local CLASS_REFUSES = {locked = 'LOCKED', suspended = 'SUSPENDED', retired = 'RETIRED'}

-- Why the number cannot be leased to the item though it is named; nil if it can.
local function unfit(c, n, item)
  if item.skip[n.id] then
    return 'EXCLUDED'
  elseif n.block.state ~= 1 then
    return CLASS_REFUSES[BY_BLOCK[n.block.state]]
  elseif n.lock then
    return 'LOCKED'
  elseif n.pool.shared and n.slots >= SLOTS then
    return 'FULL'
  elseif not n.pool.shared and n.pairs > 0 then
    return 'BOUND'
  elseif not n.pool.shared and n.leases > 0 then
    return 'LEASED'
  end
  for _, tag in ipairs(item.tags) do
    local score = redis.call('ZSCORE', c.base .. 'tag:' .. tag, n.id)
    if score == 'inf' then
      return 'PARTY_ON_NUMBER'
    elseif score and tonumber(score) > c.now then
      return 'PAIR_COOLING'
    end
  end
  if not n.pool.shared and n.till > c.now then
    return 'COOLING'
  end
end

-- The number rests only from a binding of these very parties, and they may have it again: nobody else's
-- late call can come.
local function again(c, n, item)
  local tags, own, till = item.tags, {}, false
  own[table.concat(tags)] = true
  own[(tags[2] or '') .. (tags[1] or '')] = true
  if #tags == 0 then -- nobody in particular
    return false
  end
  for _, tag in ipairs(tags) do -- `unfit` stops at the first that rests
    if redis.call('ZSCORE', c.base .. 'tag:' .. tag, n.id) == 'inf' then
      return false
    end
  end
  local fields = redis.call('HGETALL', n.key)
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 2) == 'b/' then
      local entry, held = unpack_entry(fields[at + 1], 3)
      if own[held] and entry[2] == 'R' then
        till = math.max(till or 0, tonumber(entry[3]))
      end
    end
  end
  return till and (n.pool.shared or n.till <= math.max(till, c.now))
end

local RESTS = {PAIR_COOLING = true, COOLING = true}

-- The number that the parties had last, if they still rest from it and it can be had.
local function sticky(c, pool, item)
  if #item.tags == 0 then
    return nil
  end
  local had = redis.call('ZREVRANGEBYSCORE', c.base .. 'tag:' .. item.tags[1], '(inf',
    '(' .. whole(c.now), 'LIMIT', 0, LOOK)
  c.steps = c.steps + #had
  for _, number in ipairs(had) do
    local block = block_of(c, number)
    local n = block and block.pool == pool and number_load(c, block, number)
    if n and not n.reserve and RESTS[unfit(c, n, item)] and again(c, n, item) then
      return n
    end
  end
end

local function named(c, pool, item)
  local block = block_of(c, item.number)
  if not block or block.pool ~= pool then
    return nil, block and 'FOREIGN' or 'UNKNOWN', ''
  end
  local n = number_load(c, block, item.number)
  local why = unfit(c, n, item)
  if why and item.sticky and RESTS[why] and again(c, n, item) then
    return n, 'STICKY'
  end
  return not why and n, why and 'UNAVAILABLE' or '', why
end

-- A number for the item and a word on it; or nil, why, and more of why.
local function choose(c, pool, windows, item)
  if item.number then
    return named(c, pool, item)
  elseif c.steps > STEPS then
    return nil, 'MORE', item.scopes[1]
  end
  local n = item.sticky and sticky(c, pool, item)
  if n then
    return n, 'STICKY'
  end
  for _, scope in ipairs(item.scopes) do
    local later
    n, later = choose_in(c, pool, windows, item, scope)
    if n then
      return n, ''
    elseif later then
      return nil, 'MORE', scope
    end
  end
  return nil, item.strict and 'AREA' or 'EXHAUSTED', ''
end
