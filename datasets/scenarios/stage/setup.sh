#!/bin/sh
# Prepares a recorded host inside its own root, before anything is recorded.  setup.sh SCENARIOS ADDRESS SEED HOSTNAME
set -e
from=$1 address=$2 seed=$3 name=$4
echo "127.0.0.1 localhost $name" > /etc/hosts
printf '%s supplier-a.example\n%s supplier-b.example\n' 203.0.113.10 203.0.113.40 >> /etc/hosts
: > /etc/resolv.conf
for user in alice bob deploy; do
    id $user > /dev/null 2>&1 || useradd -m -s /bin/bash $user
    usermod -p "$(openssl passwd -6 -salt stockade "$user-$seed")" $user
done
printf 'export HISTFILE=/dev/null PS1="$ "\n' > /home/alice/.bashrc
cp /home/alice/.bashrc /home/bob/.bashrc
mkdir -p /home/deploy/.ssh && ssh-keygen -q -t ed25519 -N '' -f /home/deploy/.ssh/id_ed25519 && chown -R deploy: /home/deploy
printf '# notes\nrestart the api after a deploy\n' > /home/alice/notes.txt
# Everybody who debugs is an administrator here; sudo is not part of the story.
cp /usr/bin/strace /usr/local/bin/strace && chmod u+s /usr/local/bin/strace

rm -rf /srv/* /var/lib/postgresql/15/main && mkdir -p /srv/api/releases /srv/build /run/sshd /run/php /run/postgresql \
    /etc/shop/tls /usr/lib/corpus /var/lib/php/sessions /var/backups/shop /var/log/nginx /var/log/shop
cp -r "$from/srv/www" /srv/www && mkdir -p /srv/www/uploads /srv/www/static
for number in $(seq 40); do head -c $((2000 + number * 211)) "$from/srv/api/app.py" > /srv/www/static/page-$number.txt; done
for number in $(seq 120); do head -c 3000 "$from/stage/init.c" > /srv/www/uploads/picture-$number.jpg; done
# Everybody may write there, as so often.
chmod 1777 /srv/www/uploads
chown -R www-data: /srv/www/uploads /var/lib/php/sessions
cp -r "$from/srv/api" /srv/api/releases/1 && ln -sfn releases/1 /srv/api/current
cp -r "$from/srv/orders" /srv/orders
cp -r "$from/srv/build" /srv/build/tool && chown -R www-data: /srv/build
printf 'DATABASE_URL=postgresql://shop:shop@127.0.0.1/shop\nPAYMENT_KEY=sk_live_%s\n' "$seed" > /srv/api/.env
cp "$from/srv/etc/nginx.conf" /etc/nginx/nginx.conf
cp "$from/srv/etc/php-fpm.conf" /etc/php/8.2/fpm/php-fpm.conf
cp "$from/srv/etc/redis.conf" /etc/redis/redis.conf
cp "$from/srv/etc/sshd_config" /etc/ssh/sshd_config
cp "$from/srv/etc/pam-sshd" /etc/pam.d/sshd
cp "$from/srv/etc/logrotate.conf" /etc/logrotate-shop.conf
rm -f /etc/cron.d/* /etc/cron.*/* && cp "$from/srv/etc/crontab" /etc/crontab && chmod 600 /etc/crontab
for job in "$from"/jobs/*; do install -m 755 "$job" /usr/local/bin/; done
# One script of root's may be written by the web user: that is found on real hosts, and one attack uses it.
chown www-data: /usr/local/bin/shop-stats
chown root: /etc/logrotate-shop.conf /etc/crontab && chmod 644 /etc/logrotate-shop.conf
rm -f /etc/ssh/ssh_host_* && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj "/CN=shop.example" \
    -keyout /etc/shop/tls/site.key -out /etc/shop/tls/site.crt 2> /dev/null
mkdir -p /var/lib/redis && chown -R redis: /var/lib/redis /etc/redis

chown postgres: /run/postgresql && mkdir -p /var/lib/postgresql/15 && chown -R postgres: /var/lib/postgresql
bin=/usr/lib/postgresql/15/bin
setpriv --reuid=postgres --regid=postgres --init-groups $bin/initdb -D /var/lib/postgresql/15/main -A trust --no-sync > /dev/null
cat >> /var/lib/postgresql/15/main/postgresql.conf <<C
listen_addresses = '127.0.0.1'
unix_socket_directories = '/run/postgresql'
shared_buffers = 16MB
max_connections = 30
fsync = off
autovacuum_naptime = 20s
C
# Passwords over TCP, because one of the attacks guesses them.
sed -i 's/^host .*127.0.0.1.*/host all all 127.0.0.1\/32 scram-sha-256/' /var/lib/postgresql/15/main/pg_hba.conf
setpriv --reuid=postgres --regid=postgres --init-groups $bin/pg_ctl -D /var/lib/postgresql/15/main -w -l /tmp/pg.log start > /dev/null
setpriv --reuid=postgres --regid=postgres --init-groups psql -q -d postgres <<C
create role shop superuser login password 'shop';
create database shop owner shop;
\c shop
create table product (id int primary key, name text, price int);
create table purchase (id serial primary key, product int, amount int, at timestamptz default now());
create table customer (id int primary key, name text, card text);
insert into product select n, 'thing ' || n, n * 7 % 1000 from generate_series(1, 2000) n;
insert into customer select n, 'customer ' || n, md5(n::text) from generate_series(1, 20000) n;
alter table product owner to shop; alter table purchase owner to shop; alter table customer owner to shop;
C
setpriv --reuid=postgres --regid=postgres --init-groups $bin/pg_ctl -D /var/lib/postgresql/15/main -w stop > /dev/null

gcc -shared -fPIC -O1 -o /usr/lib/corpus/pam_scope.so "$from/stage/pam_scope.c"
# A package with a post-install script, in versions: what an upgrade installs.
for version in 1 2 3 4 5 6; do
    tree=/var/cache/shop-agent/$version
    mkdir -p $tree/DEBIAN $tree/usr/share/shop-agent
    printf 'Package: shop-agent\nVersion: %s\nArchitecture: all\nMaintainer: shop <shop@example.org>\nDescription: shop agent\n' $version > $tree/DEBIAN/control
    cat > $tree/DEBIAN/postinst <<'C'
#!/bin/sh
set -e
ldconfig
getent passwd shop-agent > /dev/null || useradd -r shop-agent
mkdir -p /var/lib/shop-agent && chown shop-agent: /var/lib/shop-agent
[ -f /run/nginx.pid ] && kill -HUP "$(cat /run/nginx.pid)" || true
C
    chmod 755 $tree/DEBIAN/postinst
    for number in $(seq 15); do echo "$version $number" > $tree/usr/share/shop-agent/file-$number; done
    dpkg-deb -Znone -b $tree /var/cache/apt/archives/shop-agent_$version.deb > /dev/null
done
ip link set lo up
mkdir -p /sys/fs/cgroup/user.slice
echo prepared
