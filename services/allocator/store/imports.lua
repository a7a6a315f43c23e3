-- Numbers that were in use before they came here: each is a lease by name with a life of days, which is
-- on Kafka. `i/<import>` = `<epoch>:<version>:<deadline>:<partition>:<sequence>:` and `ie/<epoch>` = the
-- import, in the number's hash. Invariant: an import is over with its lease (bound, given back, or run out).

-- Called with the end of any lease, before commit.
local function import_over(c, n, epoch)
  local id = redis.call('HGET', n.key, 'ie/' .. epoch)
  if id then
    local fields = unpack_entry(redis.call('HGET', n.key, 'i/' .. id), 4)
    redis.call('HDEL', n.key, 'ie/' .. epoch, 'i/' .. id)
    keep(c, tonumber(fields[4]), 'import/' .. n.id .. '/' .. id, nil, draw(c))
  end
end

-- Its part of a StateRecord.
local function import_wire(number, id, epoch, deadline)
  return wire_bytes(7, wire_bytes(1, number) .. wire_bytes(2, id) .. wire_int(3, tonumber(epoch))
    .. wire_ms(4, tonumber(deadline)))
end

local function import_keep(n, id, epoch, version, deadline, partition, sequence)
  redis.call('HSET', n.key, 'ie/' .. epoch, id, 'i/' .. id, table.concat({epoch, version, deadline,
    partition, sequence, ''}, ':'))
end

-- args: path, partition of the event, then per item: number, import, tags, deadline, partition of its
-- record. → sequence to wait for, then per item epoch and deadline, or '', why, and more of why: three
-- each. One that stands already answers what stands.
writes('import', function(keys, args)
  local c = begin(keys)
  local pool = pool_load(c, args[3])
  if not pool then
    return {'POOL_NOT_FOUND'}
  end
  local results, leases, waits = {}, {}, '0'
  local next_one = whole(tonumber(redis.call('HGET', keys[1], 'seq')) + 1)
  for at = 5, #args, 5 do
    local number, id, deadline = args[at], args[at + 1], args[at + 3]
    local item = {tags = pool.tagged and split_tags(args[at + 2]) or {}, skip = {}, number = number}
    local stands = redis.call('HGET', c.base .. 'number:' .. number, 'i/' .. id)
    local place = #results
    if stands then
      local f = unpack_entry(stands, 5)
      results[place + 1], results[place + 2], results[place + 3] = f[1], f[3], ''
      local own = pending(keys, f[5])
      waits = tonumber(own) > tonumber(waits) and own or waits
    else
      local n, word, detail = choose(c, pool, {}, item)
      if n then
        local epoch, digits = take(c, n, item.tags, deadline)
        import_keep(n, id, digits, digits, deadline, args[at + 4], next_one)
        redis.call('ZADD', c.base .. 'leases', deadline, n.id .. '/' .. digits)
        leases[#leases + 1] = lease_wire(pool, n.id, epoch, tonumber(deadline))
        keep(c, tonumber(args[at + 4]), 'import/' .. n.id .. '/' .. id,
          import_wire(n.id, id, digits, deadline), epoch)
        results[place + 1], results[place + 2], results[place + 3] = digits, deadline, ''
      else
        results[place + 1], results[place + 2], results[place + 3] = '', word, detail
      end
    end
  end
  if #leases > 0 then
    tell(c, tonumber(args[4]), pool.path, 'NumbersLeased',
      wire_bytes(1, pool.name) .. table.concat(leases), draw(c))
    waits = commit(c)
  end
  return {'OK', waits, unpack(results)}
end)
