-- Leases. Invariant: an open lease holds one slot of its number and, in a shared pool, its parties'
-- tags; it ends by being confirmed (follow.lua), returned, or run out, and is then gone from the
-- number and from `leases` in the same step.

local function read_windows(c, pool, args, at)
  local windows = {}
  local how_many = tonumber(args[at])
  at = at + 1
  for _ = 1, how_many do
    local block, start, size = args[at], tonumber(args[at + 1]), tonumber(args[at + 2])
    local cursor = tonumber(redis.call('HGET', pool.blocks, block) or '10000')
    local window = {block = block, start = start, was = cursor, cursor = cursor,
      partition = tonumber(args[at + 3]), stop = start + size, numbers = {}, serves = {}}
    for offset = 1, size do
      window.numbers[offset] = args[at + 3 + offset]
    end
    window.holder = block_load(c, block)
    for _, scope in ipairs(window.holder and window.holder.scopes or {}) do
      window.serves[scope] = true
    end
    if cursor < start then -- the caller's cursor is of a store that was lost
      window.stop = cursor
    end
    windows[#windows + 1] = window
    at = at + 4 + size
  end
  return windows, at
end

-- A list in the arguments: its length, then its parts.
local function read_list(args, at)
  local list, how_many = {}, tonumber(args[at])
  for offset = 1, how_many do
    list[offset] = args[at + offset]
  end
  return list, at + how_many + 1
end

local function read_item(pool, args, at)
  local item = {skip = {}, searched = {}}
  local excluded, areas
  item.tags, at = read_list(args, at)
  excluded, at = read_list(args, at)
  item.skips = #excluded
  for _, number in ipairs(excluded) do
    item.skip[number] = true
  end
  if not pool.tagged then -- a number carries one binding and then rests, so nobody meets on it
    item.tags = {}
  end
  item.scopes = {''}
  if args[at] == '' then -- any number
    return item, at + 1
  end
  item.number = args[at + 1] ~= '' and args[at + 1]
  item.sticky = args[at + 2] == '1'
  item.seed = args[at + 3] ~= '' and tonumber(args[at + 3])
  item.strict = args[at + 4] == '1'
  areas, at = read_list(args, at + 5)
  if #areas > 0 then
    item.scopes = areas
    if not item.strict then
      areas[#areas + 1] = ''
    end
  end
  return item, at
end

-- What is left of the fresh numbers of an area beyond those that the windows gave.
local function counter_of_fresh(pool, windows)
  local known = {}
  return function(scope)
    known[scope] = known[scope]
      or tonumber(redis.call('HGET', pool.key, 'fresh:' .. scope) or '0')
    local taken = 0
    for _, window in ipairs(windows) do
      taken = taken + (window.serves[scope] and window.cursor - window.was or 0)
    end
    return known[scope] > taken
  end
end

local function move_cursors(c, pool, windows, epoch)
  local cursors = {}
  for place, window in ipairs(windows) do
    cursors[place] = window.cursor
    if window.cursor ~= window.was then
      local version, block = draw(c), window.holder
      redis.call('HSET', pool.blocks, window.block, window.cursor)
      redis.call('HSET', block.key, 'version', whole(version), 'epoch', whole(epoch))
      for _, scope in ipairs(block.scopes) do
        count(pool, 'fresh:' .. scope, window.was - window.cursor)
      end
      keep(c, window.partition, 'block/' .. window.block, block_record(c, block), version)
    end
  end
  return cursors
end

-- args: path, the pool's blocks as the caller knows them (`gen`), duration, partition of the event;
-- windows (their number, then each: block, start, size, partition, numbers), items (their number, then
-- each: tags, excluded numbers, and '' or 'S', named number, '1' if sticky, seed if random, '1' if
-- strict, areas).
-- → deadline, the windows' cursors, then per item number, epoch and '' or 'STICKY'; or '', why, and
-- more of why. MORE: the windows were too small for the area named, or scans too long: the caller asks
-- for the rest again, with the cursors just learnt. Items before the first MORE are settled, so it
-- comes to an end.
writes('lease', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  if (pool.gen or '0') ~= args[4] then
    return {'BLOCKS_CHANGED'}
  end
  local deadline = c.now + tonumber(args[5])
  local windows, at = read_windows(c, pool, args, 7)
  pool.more = counter_of_fresh(pool, windows)
  local results, leases, due, last = {}, {}, {}, 0
  local ends = whole(deadline)
  local how_many = tonumber(args[at])
  at = at + 1
  for _ = 1, how_many do
    local item, digits
    item, at = read_item(pool, args, at)
    local n, word, detail = choose(c, pool, windows, item)
    if n then
      last, digits = take(c, n, item.tags, ends)
      due[#due + 1] = ends
      due[#due + 1] = n.id .. '/' .. digits
      leases[#leases + 1] = lease_wire(pool, n.id, last, deadline)
    end
    results[#results + 1] = n and n.id or ''
    results[#results + 1] = n and digits or word
    results[#results + 1] = n and word or detail
  end
  local cursors = move_cursors(c, pool, windows, last)
  if #leases > 0 then
    redis.call('ZADD', c.base .. 'leases', unpack(due))
    tell(c, tonumber(args[6]), pool.path, 'NumbersLeased',
      wire_bytes(1, pool.name) .. table.concat(leases), draw(c))
  end
  commit(c)
  return {'OK', ends, cursors, results}
end)

-- Ends an open lease. The number rests for `rest` ms if it is exclusive; the tags rest as long.
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
  tags_settle(c, n, split_tags(tags), till)
  if not n.pool.shared then
    n.till = math.max(n.till, till)
  end
  number_save(c, n)
  import_over(c, n, epoch)
  return true
end

-- args: triples of number, epoch, partition of the event.
local function end_leases(keys, args, change)
  local c, ended = begin(keys), 0
  for at = 3, #args, 3 do
    local block = block_of(c, args[at])
    if block then
      local n = number_load(c, block, args[at])
      if end_lease(c, n, args[at + 1], change == 2 and block.pool.rest or 0) then
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
