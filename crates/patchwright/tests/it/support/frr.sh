# A router in namespaces of its own: FRRouting's zebra and bgpd, nftables, and sshd with an account whose shell is
# vtysh. The first argument is a directory of its own. Ends with its first process.
set -eu
mine=$1
mount --make-rprivate /
hostname r1
mkdir "$mine/run-frr" "$mine/etc-frr" "$mine/run-sshd"
chown frr:frr "$mine/run-frr" "$mine/etc-frr"
mkdir -p /run/frr /run/sshd /var/tmp/frr
mount --bind "$mine/run-frr" /run/frr
mount --bind "$mine/etc-frr" /etc/frr
mount --bind "$mine/run-sshd" /run/sshd
mount -t tmpfs -o mode=0755,uid=frr,gid=frr none /var/tmp/frr
for file in passwd shadow group; do cp -p "/etc/$file" "$mine/$file"; done
echo 'netop:x:4242:4242::/:/usr/bin/vtysh' >> "$mine/passwd"
echo "netop:$(openssl passwd -6 S3cret-of-netop):20000:0:99999:7:::" >> "$mine/shadow"
echo 'netop:x:4242:' >> "$mine/group"
sed -i 's/^frrvty:x:\([0-9]*\):.*/frrvty:x:\1:frr,netop/' "$mine/group"
for file in passwd shadow group; do mount --bind "$mine/$file" "/etc/$file"; done
ip link set lo up
echo 'service integrated-vtysh-config' > /etc/frr/vtysh.conf
cat > /etc/frr/frr.conf <<'CONFIGURATION'
hostname r1
password Zebra-Pa55
router bgp 65001
 bgp router-id 10.0.0.1
 neighbor 10.0.0.2 remote-as 65002
 neighbor 10.0.0.2 password Bgp-Pa55word
 address-family ipv4 unicast
  neighbor 10.0.0.2 route-map IN in
 exit-address-family
exit
route-map IN permit 10
 set local-preference 100
exit
CONFIGURATION
chown frr:frr /etc/frr/*
chmod 640 /etc/frr/frr.conf
/usr/lib/frr/zebra -d
/usr/lib/frr/bgpd -d
vtysh -b
nft 'add table inet filter; add chain inet filter input { type filter hook input priority 0; }; add rule inet filter input tcp dport 2222 counter accept'
cat > "$mine/sshd_config" <<SETTINGS
Port 2222
ListenAddress 0.0.0.0
HostKey $mine/host
PidFile $mine/sshd.pid
UsePAM no
PermitRootLogin prohibit-password
AuthorizedKeysFile $mine/client.pub
StrictModes no
SETTINGS
while :; do
    /usr/sbin/sshd -D -f "$mine/sshd_config" || true
done
