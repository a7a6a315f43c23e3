-- Leases. Invariant: an open lease holds one slot of its number and, in a shared pool, its parties'
-- tags; it ends by being confirmed (follow.lua), returned, or run out, and is then gone from the
-- number and from `leases` in the same step.

local LOOK = 64 -- a party on more numbers in use than these is rare, and needs fresh ones anyway
local STEPS = 10000 -- of all scans of one function; then items are put off: 10 to 30 ms

-- The first number of a sorted set on which no tag is held and that is not excluded. Every number
-- passed over is one that some tag holds, or excluded: hence the bound. `most` bounds it further.
local function scan(c, command, source, item, most)
  local left = #item.excluded + 1
  for _, tag in ipairs(item.tags) do
    left = left + redis.call('ZCARD', c.base .. 'tag:' .. tag)
  end
  left = math.min(left, most)
  local from, size = 0, 8
  while left > 0 do
    size = math.min(left, size * 2, 1024)
    local found = redis.call(command, source, from, from + size - 1)
    c.steps = c.steps + size
    if #found == 0 then
      return nil
    end
    local held = {}
    for _, tag in ipairs(item.tags) do
      local scores = redis.call('ZMSCORE', c.base .. 'tag:' .. tag, unpack(found))
      for at, score in ipairs(scores) do
        if score and (score == 'inf' or tonumber(score) > c.now) then
          held[at] = true
        end
      end
    end
    for at, number in ipairs(found) do
      if not held[at] and not item.skip[number] then
        return number
      end
    end
    from, left = from + size, left - size
  end
end

-- The next number of the windows that nobody touched. One that binding has just refused is left to
-- rest: it is in use, and the store does not know (any more).
local function fresh(c, pool, windows, item)
  for _, window in ipairs(windows) do
    while window.cursor < window.stop do
      local number = window.numbers[window.cursor - window.start + 1]
      window.cursor = window.cursor + 1
      local n = number_load(c, pool, number)
      if not n.touched then
        if not item.skip[number] then
          return n
        end
        n.till = pool.shared and 0 or c.now + pool.cooling
        number_save(c, n)
      end
    end
  end
end

local function rested(c, pool, item)
  if pool.shared then
    return scan(c, 'ZRANGE', pool.resting, item, math.huge)
  end
  local found = redis.call('ZRANGEBYSCORE', pool.resting, '-inf', whole(c.now), 'LIMIT', 0,
    #item.excluded + 1)
  for _, number in ipairs(found) do
    if not item.skip[number] then
      return number
    end
  end
end

-- A number for the item, or nil. Fullest first, so that a shared pool keeps few numbers in use; then
-- fresh ones, in the walk's order; then those used before, oldest first.
-- A party that is on the fullest LOOK numbers gets a fresh one while there are any: it needs as many
-- numbers as it has bindings anyway, and a lease stays cheap. Only then every number is looked at.
local function choose(c, pool, windows, item)
  if c.steps > STEPS then
    return nil, true
  end
  local number = pool.shared and scan(c, 'ZREVRANGE', pool.open, item, LOOK)
  if not number then
    local n = fresh(c, pool, windows, item)
    if n then
      return n
    end
    if pool.more() then
      return nil, true
    end
    number = rested(c, pool, item)
      or pool.shared and scan(c, 'ZREVRANGE', pool.open, item, math.huge)
  end
  return number and number_load(c, pool, number)
end

local function take(c, n, item, deadline)
  local epoch = draw(c)
  n.leases = n.leases + 1
  local digits = whole(epoch)
  for _, tag in ipairs(item.tags) do
    tag_hold(c, tag, n.id)
  end
  number_save(c, n, epoch, 'e/' .. digits, deadline .. ':' .. table.concat(item.tags))
  return epoch, digits
end

local function read_windows(pool, args, at)
  local windows = {}
  local how_many = tonumber(args[at])
  at = at + 1
  for _ = 1, how_many do
    local block, start, size = args[at], tonumber(args[at + 1]), tonumber(args[at + 2])
    local cursor = tonumber(redis.call('HGET', pool.blocks, block) or '10000')
    local window = {block = block, start = start, was = cursor, cursor = cursor,
      partition = tonumber(args[at + 3]), stop = start + size, numbers = {}}
    for offset = 1, size do
      window.numbers[offset] = args[at + 3 + offset]
    end
    if cursor < start then -- the caller's cursor is of a store that was lost
      window.stop = cursor
    end
    windows[#windows + 1] = window
    at = at + 4 + size
  end
  return windows, at
end

local function read_item(pool, args, at)
  local item = {tags = {}, excluded = {}, skip = {}}
  local how_many = tonumber(args[at])
  for offset = 1, how_many do
    if pool.shared then -- an exclusive number carries one binding, so nobody meets on it
      item.tags[#item.tags + 1] = args[at + offset]
    end
  end
  at = at + how_many + 1
  how_many = tonumber(args[at])
  for offset = 1, how_many do
    item.excluded[offset] = args[at + offset]
    item.skip[args[at + offset]] = true
  end
  return item, at + how_many + 1
end

-- args: path, how many blocks the caller knows, duration, partition of the event; windows (their
-- number, then each: block, start, size, partition, numbers), items (their number, then each: tags,
-- excluded numbers, both preceded by their number).
-- → deadline, the windows' cursors, then per item number and epoch; '' and 'EXHAUSTED', or '' and
-- 'MORE' where the windows were too small or scans too long: the caller asks for the rest again, with
-- the cursors just learnt. Items before the first MORE are settled, so it comes to an end.
writes('lease', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  if redis.call('HLEN', pool.blocks) ~= tonumber(args[4]) then
    return {'BLOCKS_CHANGED'}
  end
  local deadline = c.now + tonumber(args[5])
  local windows, at = read_windows(pool, args, 7)
  local sizes = redis.call('HMGET', pool.key, 'total', 'walked')
  local fresh_left = tonumber(sizes[1] or '0') - tonumber(sizes[2] or '0')
  pool.more = function()
    local taken = 0
    for _, window in ipairs(windows) do
      taken = taken + window.cursor - window.was
    end
    return fresh_left > taken
  end
  local results, leases, due, last, digits = {}, {}, {}, 0, ''
  local ends = whole(deadline)
  local rest = wire_ms(3, deadline) .. wire_int(4, POLICY[pool.policy]) .. wire_ms(5, pool.cooling)
  local how_many = tonumber(args[at])
  at = at + 1
  for _ = 1, how_many do
    local item
    item, at = read_item(pool, args, at)
    local n, later = choose(c, pool, windows, item)
    if n then
      last, digits = take(c, n, item, ends)
      results[#results + 1] = n.id
      results[#results + 1] = digits
      due[#due + 1] = ends
      due[#due + 1] = n.id .. '/' .. digits
      leases[#leases + 1] = wire_bytes(2, wire_bytes(1, n.id) .. wire_int(2, last) .. rest)
    else
      results[#results + 1] = ''
      results[#results + 1] = later and 'MORE' or 'EXHAUSTED'
    end
  end
  local cursors = {}
  for place, window in ipairs(windows) do
    cursors[place] = window.cursor
    if window.cursor ~= window.was then
      local version = draw(c)
      redis.call('HSET', pool.blocks, window.block, window.cursor)
      local key = c.base .. 'block:' .. window.block
      redis.call('HSET', key, 'version', whole(version), 'epoch', whole(last))
      count(pool, 'walked', window.cursor - window.was)
      keep(c, window.partition, 'block/' .. window.block, wire_bytes(4,
        wire_bytes(1, redis.call('HGET', key, 'record')) .. wire_int(2, window.cursor)
        .. wire_int(3, last)), version)
    end
  end
  if #leases > 0 then
    redis.call('ZADD', c.base .. 'leases', unpack(due))
    tell(c, tonumber(args[6]), pool.path, 'NumbersLeased',
      wire_bytes(1, pool.name) .. table.concat(leases), draw(c))
  end
  commit(c)
  return {'OK', ends, cursors, results}
end)

-- Ends an open lease. The number rests for `rest` ms if it is exclusive, the tags if it is shared.
local function end_lease(c, n, epoch, rest)
  local field = 'e/' .. epoch
  local entry = redis.call('HGET', n.key, field)
  if not entry then
    return false
  end
  local fields, tags = unpack_entry(entry, 1)
  if rest > 0 and tonumber(fields[1]) > c.now then
    return false
  end
  local till = rest > 0 and c.now + rest or 0
  redis.call('HDEL', n.key, field)
  redis.call('ZREM', c.base .. 'leases', n.id .. '/' .. epoch)
  n.leases = n.leases - 1
  if n.pool.shared then
    tags_settle(c, n.key, n.id, split_tags(tags), till)
  else
    n.till = math.max(n.till, till)
  end
  number_save(c, n)
  return true
end

-- args: triples of number, epoch, partition of the event.
local function end_leases(keys, args, change)
  local c, ended = begin(keys), 0
  for at = 3, #args, 3 do
    local pool = pool_of(c, args[at])
    if pool then
      local n = number_load(c, pool, args[at])
      if end_lease(c, n, args[at + 1], change == 2 and pool.cooling or 0) then
        number_tell(c, n, tonumber(args[at + 2]), change)
        ended = ended + 1
      end
    end
  end
  commit(c)
  return {'OK', ended}
end

writes('return_leases', function(keys, args)
  return end_leases(keys, args, 1)
end)

writes('expire_leases', function(keys, args)
  return end_leases(keys, args, 2)
end)

-- args: how many at most, grace in ms. → number/epoch of leases past deadline and grace
reads('due', function(keys, args)
  local c = begin(keys)
  return {'OK', unpack(redis.call('ZRANGEBYSCORE', c.base .. 'leases', '-inf',
    whole(c.now - tonumber(args[4])), 'LIMIT', 0, tonumber(args[3])))}
end)
