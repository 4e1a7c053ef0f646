// ReVersion Exemplars shows one free picture socket behind the last one in use, up to picture_10.
import { app } from "../../../scripts/app.js"

const LAST = 10
const HOLLOW = 7 // LiteGraph's shape of optional inputs

const numberOf = input => Number(/^picture_(\d+)$/.exec(input.name)?.[1])

function grow(node) {
    const used = node.inputs.filter(input => input.link != null).map(numberOf).filter(Boolean)
    const shown = Math.min(Math.max(1, ...used) + 1, LAST)
    for (const input of node.inputs.filter(input => numberOf(input) > shown)) node.removeInput(node.inputs.indexOf(input))
    const there = node.inputs.map(numberOf)
    for (let number = 2; number <= shown; number++)
        if (!there.includes(number)) node.addInput(`picture_${number}`, "IMAGE", { shape: HOLLOW })
}

app.registerExtension({
    name: "ReVersion.GrowingPictures",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name !== "ReVersionExemplars") return
        for (const event of ["onNodeCreated", "onConfigure", "onConnectionsChange"]) {
            const before = nodeType.prototype[event]
            nodeType.prototype[event] = function (...details) {
                const result = before?.apply(this, details)
                setTimeout(() => this.graph && grow(this)) // when all links of a workflow that opens are there
                return result
            }
        }
    },
})
