"""OpenGL rasteriser of hands and solids: colour, depth and part of every pixel, in one pass.

Runs through EGL, so it needs no display: Mesa's llvmpipe on a CPU, the driver of the chip on a GPU. All positions are
given in metres in the camera's optical frame, so that a vertex and its label pass through the same numbers.

The picture is sampled on a grid ``supersample`` times finer than its pixels, laid out such that every
``supersample``-th sample sits exactly on a pixel centre. Depth and parts are those samples, untouched; colour is a
tent filter over their neighbours, about what a lens, a low-pass filter and demosaicing leave.
"""
from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

import numpy as np

from hand_pose_ros.errors import ConfigError
from hand_pose_ros.synthesis.environment import Lighting

SOLID_ID = 240
"""Pixel id of everything that is no labelled hand. A labelled hand h (0, 1, ...) has ids 16 (h + 1) + part."""

CAPSULES_PER_HAND, MAX_HANDS = 21, 3
"""Capsules come in groups of this many, and only those of the first few hands darken what is near them."""
_OCCLUSION_REACH_M = 0.16
DEVICE_INDEX = "GLCONTEXT_DEVICE_INDEX"
"""Environment variable by which glcontext chooses among EGL's devices."""
NEAR_M, FAR_M = 0.03, 30.0
_SHADOW_SIZE = 256
SHADOW_MARGIN_M = 0.01
"""How much further than the vertices in the picture the shadow map reaches: triangles cross the picture's border."""
_BITS = np.array([1, 2, 4, 8, 16], np.uint8)

_LIGHTING = f"#define SHADOW_TEXEL (1.0 / {_SHADOW_SIZE}.0)" + """
uniform vec3 u_sh[9];
uniform mat3 u_world;            // camera axes to environment axes
uniform vec3 u_light_dir[3];     // towards the light, camera axes
uniform vec3 u_light_rgb[3];
uniform mat4 u_shadow;
uniform sampler2DShadow t_shadow;
uniform sampler2DArray t_env;    // octahedral, layer 2 e = rough, 2 e + 1 = glossy
uniform float u_env_layer;
uniform vec3 u_env_gain;

float fifth(float x) {               // pow() costs far more on a CPU
    float y = x * x;
    return y * y * x;
}
vec3 irradiance(vec3 n) {
    vec3 w = u_world * n;
    return max(u_sh[0] + u_sh[1] * w.y + u_sh[2] * w.z + u_sh[3] * w.x + u_sh[4] * (w.x * w.y) + u_sh[5] * (w.y * w.z)
               + u_sh[6] * (3.0 * w.z * w.z - 1.0) + u_sh[7] * (w.x * w.z) + u_sh[8] * (w.x * w.x - w.y * w.y), 0.0);
}
vec3 reflection(vec3 r, float layer) {
    vec3 w = u_world * r;
    w /= abs(w.x) + abs(w.y) + abs(w.z);
    vec2 f = w.z >= 0.0 ? w.xy : (1.0 - abs(w.yx)) * vec2(w.x >= 0.0 ? 1.0 : -1.0, w.y >= 0.0 ? 1.0 : -1.0);
    return texture(t_env, vec3(f * 0.5 + 0.5, u_env_layer + layer)).rgb * u_env_gain;
}
float shadow(vec3 p, vec3 n) {
    float texel = 2.0 * SHADOW_TEXEL / length(vec3(u_shadow[0][0], u_shadow[1][0], u_shadow[2][0]));     // metres
    vec4 s = u_shadow * vec4(p + n * max(0.0012, 2.0 * texel), 1.0);    // beyond the samples, or it shades itself
    vec3 c = s.xyz * 0.5 + 0.5;
    if (any(lessThan(c, vec3(0.0))) || any(greaterThan(c, vec3(1.0)))) return 1.0;
    float d = 1.3 * SHADOW_TEXEL;
    return 0.25 * (texture(t_shadow, c + vec3(-d, -d, 0)) + texture(t_shadow, c + vec3(d, -d, 0))
                   + texture(t_shadow, c + vec3(-d, d, 0)) + texture(t_shadow, c + vec3(d, d, 0)));
}
"""

_OCCLUSION = """
uniform vec4 u_cap_a[63];        // xyz start, w squared radius
uniform vec4 u_cap_b[63];        // xyz to the end, w one over its squared length
uniform vec4 u_hand[3];          // a ball round each group of 21 and what it darkens
uniform int u_hands;
float occlusion(vec3 p, vec3 n) {
    float open = 1.0;
    for (int h = 0; h < u_hands; ++h) {
        float near = 1.0 - smoothstep(u_hand[h].w - 0.05, u_hand[h].w, distance(p, u_hand[h].xyz));
        int end = near > 0.0 ? 21 * h + 21 : 21 * h;       // far from a hand, as most of a body is, nothing is done
        for (int i = 21 * h; i < end; ++i) {
            vec4 a = u_cap_a[i], b = u_cap_b[i];
            vec3 d = a.xyz - p;
            d -= clamp(dot(d, b.xyz) * b.w, -1.0, 0.0) * b.xyz;
            float s = 1.0 / (dot(d, d) + 1e-9);
            open *= 1.0 - 0.85 * near * clamp(dot(d, n) * sqrt(s) + 0.15, 0.0, 1.0) * min(a.w * s, 1.0);
        }
    }
    return open;
}
"""

_SKIN_VERTEX = """
#version 330
in vec3 in_pos; in vec3 in_normal; in vec2 in_uv; in float in_part;
out vec3 v_pos; out vec3 v_normal; out vec2 v_uv; out vec4 v_open; flat out float v_part;
uniform mat4 u_projection;
uniform float u_glove;
""" + _OCCLUSION + """
void main() {
    gl_Position = u_projection * vec4(in_pos, 1.0);
    v_pos = in_pos; v_normal = in_normal; v_uv = in_uv;
    v_part = in_part;
    float open = occlusion(in_pos, in_normal);
    v_open = vec4(pow(vec3(max(open, 0.02)), mix(vec3(0.7, 1.05, 1.15), vec3(1.0), u_glove)), open);
}
"""

_SKIN_FRAGMENT = """
#version 330
in vec3 v_pos; in vec3 v_normal; in vec2 v_uv; in vec4 v_open; flat in float v_part;
layout(location = 0) out vec4 o_color; layout(location = 1) out vec2 o_depth_id;
uniform sampler2DArray t_skin;   // rgb: tone relative to the base (0.5 is neutral), a: height
uniform sampler2DArray t_mask;   // r palm, g nail, b blood, a crease
uniform float u_layer, u_base_id, u_glove, u_gloss, u_bump, u_detail;
uniform vec3 u_back, u_palm, u_blood, u_knuckle, u_nail, u_crease, u_scatter;
""" + _LIGHTING + """
void main() {
    vec3 n = normalize(v_normal), e = normalize(-v_pos);
    vec4 skin = texture(t_skin, vec3(v_uv, u_layer));
    vec4 mask = texture(t_mask, vec3(v_uv, 0.0));
    float h = skin.a * u_bump;
    vec3 dx = dFdx(v_pos), dy = dFdy(v_pos);
    vec3 r1 = cross(dy, n), r2 = cross(n, dx);
    float det = dot(dx, r1);
    vec3 g = sign(det) * (clamp(dFdx(h), -0.0006, 0.0006) * r1 + clamp(dFdy(h), -0.0006, 0.0006) * r2);
    n = det == 0.0 ? n : normalize(abs(det) * n - g);
    float nail = mask.g * (1.0 - u_glove);
    vec3 albedo = mix(u_back, u_palm, mask.r);
    albedo *= mix(vec3(1.0), mix(u_knuckle, u_blood, mask.r), mask.b * (1.0 - nail));
    albedo = mix(albedo, u_nail, nail);
    albedo = mix(albedo, albedo * u_crease, mask.a * (1.0 - nail));
    vec3 detail = mix(vec3(1.0), skin.rgb * 2.0, max(u_detail, nail));
    albedo = mix(albedo * detail, u_back * mix(1.0, skin.r * 2.0, 0.6), u_glove);
    float open = v_open.w;
    vec3 light = irradiance(n) * v_open.xyz;
    float lit = shadow(v_pos, normalize(v_normal));
    float gloss = mix(u_gloss, 0.75, nail);
    float power = exp2(2.0 + 6.0 * gloss);
    float fresnel = 0.035 + 0.3 * fifth(1.0 - clamp(dot(n, e), 0.0, 1.0));
    vec3 shine = reflection(reflect(-e, n), step(0.6, gloss)) * fresnel * open * (0.4 + gloss);
    for (int i = 0; i < 3; ++i) {
        float s = i == 0 ? lit : mix(1.0, open, 0.8);
        float c = dot(n, u_light_dir[i]);
        vec3 wrapped = max((vec3(c) + u_scatter) / (1.0 + u_scatter), 0.0);
        light += u_light_rgb[i] * wrapped * mix(vec3(s), vec3(1.0), u_scatter * 0.35 * open);
        float spec = pow(max(dot(n, normalize(u_light_dir[i] + e)), 0.0), power) * (power + 8.0) * 0.04;
        shine += u_light_rgb[i] * spec * fresnel * s * step(0.0, c) * gloss;
    }
    o_color = vec4(min(albedo * light + shine, 50.0), 1.0);
    o_depth_id = vec2(v_pos.z, u_base_id + v_part);
}
"""

_SOLID_VERTEX = """
#version 330
in vec3 in_pos; in vec3 in_normal; in vec2 in_uv; in vec3 in_color; in vec3 in_surface;
out vec3 v_pos; out vec3 v_normal; out vec2 v_uv; out vec3 v_color; out vec2 v_surface; out float v_open;
flat out float v_id;
uniform mat4 u_projection;
""" + _OCCLUSION + """
void main() {
    gl_Position = u_projection * vec4(in_pos, 1.0);
    v_pos = in_pos; v_normal = in_normal; v_uv = in_uv; v_color = in_color;
    v_surface = in_surface.xy; v_id = in_surface.z;
    v_open = occlusion(in_pos, in_normal);
}
"""

_SOLID_FRAGMENT = """
#version 330
in vec3 v_pos; in vec3 v_normal; in vec2 v_uv; in vec3 v_color; in vec2 v_surface; in float v_open; flat in float v_id;
layout(location = 0) out vec4 o_color; layout(location = 1) out vec2 o_depth_id;
uniform sampler2DArray t_pattern;
""" + _LIGHTING + """
void main() {
    vec3 e = normalize(-v_pos), n = normalize(v_normal);
    n = dot(n, e) < 0.0 ? -n : n;
    float gloss = v_surface.y;
    vec3 albedo = v_color * texture(t_pattern, vec3(v_uv, v_surface.x)).rgb * 2.0;
    float power = exp2(2.0 + 6.0 * gloss);
    float fresnel = mix(0.04, 0.25, smoothstep(0.8, 1.0, gloss)) + 0.5 * fifth(1.0 - clamp(dot(n, e), 0.0, 1.0));
    vec3 light = irradiance(n) * v_open;
    vec3 shine = reflection(reflect(-e, n), step(0.6, gloss)) * fresnel * gloss * v_open;
    float lit = shadow(v_pos, n);
    for (int i = 0; i < 3; ++i) {
        float s = i == 0 ? lit : 1.0;
        light += u_light_rgb[i] * max(dot(n, u_light_dir[i]), 0.0) * s;
        float spec = pow(max(dot(n, normalize(u_light_dir[i] + e)), 0.0), power) * (power + 8.0) * 0.04;
        shine += u_light_rgb[i] * spec * fresnel * s * gloss;
    }
    o_color = vec4(min(albedo * light + shine, 50.0), 1.0);
    o_depth_id = vec2(v_pos.z, v_id);
}
"""

_DEPTH_VERTEX = """
#version 330
in vec3 in_pos; uniform mat4 u_shadow;
void main() { gl_Position = u_shadow * vec4(in_pos, 1.0); }
"""
_DEPTH_FRAGMENT = "#version 330\nvoid main() {}\n"

_RESOLVE_VERTEX = """
#version 330
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }
"""

_RESOLVE_FRAGMENT = """
#version 330
layout(location = 0) out vec4 o_color; layout(location = 1) out vec2 o_depth_id;
uniform sampler2D t_color, t_depth_id;
uniform int u_samples;           // per pixel and side
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy) * u_samples, last = textureSize(t_color, 0) - 1;
    vec4 sum = vec4(0.0);
    for (int dy = 1 - u_samples; dy < u_samples; ++dy)
        for (int dx = 1 - u_samples; dx < u_samples; ++dx)
            sum += float((u_samples - abs(dx)) * (u_samples - abs(dy)))
                   * texelFetch(t_color, clamp(at + ivec2(dx, dy), ivec2(0), last), 0);
    o_color = sum / float(u_samples * u_samples * u_samples * u_samples);
    o_depth_id = texelFetch(t_depth_id, at, 0).xy;
}
"""

_BAKE_VERTEX = """
#version 330
in vec2 in_uv; in vec4 in_value; out vec4 v_value;
void main() { gl_Position = vec4(in_uv * 2.0 - 1.0, 0.0, 1.0); v_value = in_value; }
"""
_BAKE_FRAGMENT = "#version 330\nin vec4 v_value; out vec4 o_value;\nvoid main() { o_value = v_value; }\n"


@dataclass(frozen=True, eq=False)
class SkinTemplate:
    """What does not change from image to image of one hand mesh."""

    faces: np.ndarray                               # (T, 3) int32, counter-clockwise seen from outside
    uv: np.ndarray                                  # (V, 2) atlas coordinates in 0..1
    part: np.ndarray                                # (V,) uint8, as types.Sample.parts


@dataclass(frozen=True, eq=False)
class SkinLook:
    """Colours are linear RGB albedos (3,)."""

    layer: int                                      # of the skin texture array
    back: np.ndarray
    palm: np.ndarray
    blood: np.ndarray                               # factor where blood shows through: pads, heel of the palm
    knuckle: np.ndarray                             # factor over the joints of the back
    nail: np.ndarray
    crease: np.ndarray                              # factor on the albedo inside creases
    scatter: np.ndarray                             # wrap of the diffuse light per channel, 0..1
    gloss: float                                    # 0 matt .. 1 wet
    bump_m: float                                   # height of the relief, metres
    detail: float = 1.0                             # strength of the texture, 0..1
    glove: bool = False


@dataclass(frozen=True, eq=False)
class Skin:
    """One posed skinned mesh. ``hand`` is its index among the labelled hands, or -1 for none."""

    template: str
    vertices: np.ndarray                            # (V, 3) metres, camera frame
    normals: np.ndarray                             # (V, 3) unit
    look: SkinLook
    hand: int
    flipped: bool = False                           # mirrored in space, so that its faces wind the other way


@dataclass(frozen=True, eq=False)
class Solid:
    """A triangle mesh with one pattern. Positions in metres in the camera frame."""

    vertices: np.ndarray                            # (V, 3)
    normals: np.ndarray                             # (V, 3)
    uv: np.ndarray                                  # (V, 2) repeats of the pattern
    faces: np.ndarray                               # (T, 3)
    color: np.ndarray                               # (3,) or (V, 3) linear albedo
    pattern: int
    gloss: float


@dataclass(frozen=True, eq=False)
class View:
    """Everything in front of one camera."""

    K: np.ndarray                                   # (3, 3) pixels of the output image
    lighting: Lighting
    skins: tuple = ()
    solids: tuple = ()
    capsules: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))    # start, end, radius; ambient occlusion
    coarse: bool = False                            # one sample a pixel, for pictures that are shrunk afterwards


@dataclass(frozen=True, eq=False)
class Raster:
    """What was rendered, before any background or sensor."""

    color: np.ndarray                               # (H, W, 3) float32 linear light, premultiplied by alpha
    alpha: np.ndarray                               # (H, W) float32 coverage
    depth: np.ndarray                               # (H, W) float32 metres along z at the pixel centre; 0 nothing
    ids: np.ndarray                                 # (H, W) uint8 at the pixel centre: 0 nothing, see SOLID_ID


class Renderer:
    """One OpenGL context with its programs and textures. Not for sharing between threads or processes.

    width, height: of the output image in pixels. skin_textures (L, A, A, 4) uint8 and masks (M, A, A, 4) uint8 are the
    atlases of materials.py, patterns (P, B, B, 3) uint8 those of solids, environments (2 E, O, O, 3) float32 the
    octahedral reflections of environment.py. Several may be used by turns. Nothing of one is freed before ``release``.
    Raises ConfigError where no EGL device can be opened.
    """

    def __init__(self, width: int, height: int, templates: dict[str, SkinTemplate], environments: np.ndarray,
                 patterns: np.ndarray, supersample: int = 2):
        self.width, self.height, self.supersample = width, height, supersample
        self.ctx = open_context()
        self._templates = templates
        self._meshes: dict[tuple, tuple] = {}
        self._atlases: dict[str, tuple] = {}
        self._targets: dict[int, tuple] = {}
        with self.ctx as ctx:
            self._build(ctx, environments, patterns)

    def _build(self, ctx, environments: np.ndarray, patterns: np.ndarray) -> None:
        """Programs, textures and buffers that stay as long as the context does."""
        self.device: str = ctx.info["GL_RENDERER"]                 # the OpenGL device in use
        size = (self.width, self.height)
        self._color, self._depth_id = ctx.texture(size, 4, dtype="f4"), ctx.texture(size, 2, dtype="f4")
        self._resolved = ctx.framebuffer([self._color, self._depth_id])
        self._resolve_program = ctx.program(_RESOLVE_VERTEX, _RESOLVE_FRAGMENT)
        self._resolve_program["t_color"], self._resolve_program["t_depth_id"] = 0, 1
        self._resolve_vao = ctx.vertex_array(self._resolve_program, [])
        self._shadow_map = ctx.depth_texture((_SHADOW_SIZE, _SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_fbo = ctx.framebuffer(depth_attachment=self._shadow_map)
        self._skin_program = ctx.program(_SKIN_VERTEX, _SKIN_FRAGMENT)
        self._solid_program = ctx.program(_SOLID_VERTEX, _SOLID_FRAGMENT)
        self._depth_program = ctx.program(_DEPTH_VERTEX, _DEPTH_FRAGMENT)
        self._env = _texture_array(ctx, environments.astype(np.float16), repeat=False, mipmaps=False)
        self._pattern = _texture_array(ctx, patterns, repeat=True, mipmaps=True)
        for program in (self._skin_program, self._solid_program):
            program["t_shadow"], program["t_env"] = 0, 1
        self._solid_program["t_pattern"] = 2
        self._skin_program["t_skin"], self._skin_program["t_mask"] = 3, 4
        self._solid_buffer = ctx.buffer(reserve=6 << 20, dynamic=True)
        self._solid_index = ctx.buffer(reserve=3 << 20, dynamic=True)
        self._solid_vao = ctx.vertex_array(
            self._solid_program, [(self._solid_buffer, "3f 3f 2f 3f 3f", "in_pos", "in_normal", "in_uv", "in_color",
                                   "in_surface")], self._solid_index)
        self._solid_shadow_vao = ctx.vertex_array(
            self._depth_program, [(self._solid_buffer, "3f 11x4", "in_pos")], self._solid_index)

    def release(self) -> None:
        """Give back the context with all that lies in it, some 80 MB: it draws no more. A second call does nothing."""
        self.ctx.release()

    def set_atlas(self, template: str, textures: np.ndarray, masks: np.ndarray) -> None:
        """Gives a template its skin textures (L, A, A, 4) uint8 and masks (1, A, A, 4) uint8 (see materials.py)."""
        with self.ctx as ctx:
            self._atlases[template] = (_texture_array(ctx, textures, False, True),
                                       _texture_array(ctx, masks, False, True))

    def bake(self, template: str, values: np.ndarray, size: int) -> np.ndarray:
        """Spreads per-vertex values (V, 4) over the atlas. Returns (size, size, 4) float32, NaN outside every face."""
        mesh = self._templates[template]
        data = np.hstack([mesh.uv, values]).astype(np.float32)
        with self.ctx as ctx:
            target = ctx.texture((size, size), 4, dtype="f4")
            fbo = ctx.framebuffer([target])
            fbo.use()
            fbo.clear(np.nan, np.nan, np.nan, np.nan)
            program = ctx.program(_BAKE_VERTEX, _BAKE_FRAGMENT)
            vertices, faces = ctx.buffer(data.tobytes()), ctx.buffer(mesh.faces.astype(np.int32).tobytes())
            vao = ctx.vertex_array(program, [(vertices, "2f 4f", "in_uv", "in_value")], faces)
            ctx.disable(ctx.DEPTH_TEST | ctx.CULL_FACE)
            vao.render()
            baked = np.frombuffer(target.read(), np.float32).reshape(size, size, 4)
            for used in (vao, vertices, faces, program, fbo, target):
                used.release()
        return baked

    def render(self, view: View) -> Raster:
        """Draws a view. Returns a Raster of the renderer's size."""
        with self.ctx:                                             # another renderer's may have been in use
            return self._render(view)

    def _render(self, view: View) -> Raster:
        ctx = self.ctx
        drawn = [self._upload(skin, slot) for slot, skin in enumerate(view.skins)]
        solids, seen = self._upload_solids(view.solids, view.K)
        self._set_lighting(view)
        self._draw_shadows(view, drawn, solids)
        samples = 1 if view.coarse else self.supersample
        target, color, depth_id = self._target(samples)
        target.use()
        target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        ctx.enable_only(ctx.DEPTH_TEST | ctx.CULL_FACE)
        projection = self._projection(view.K, samples).T.tobytes()
        self._skin_program["u_projection"].write(projection)
        self._solid_program["u_projection"].write(projection)
        self._shadow_map.use(0)
        self._env.use(1)
        self._pattern.use(2)
        for skin, (vao, _, _) in zip(view.skins, drawn):
            if np.bitwise_and.reduce(self._beyond(view.K, skin.vertices)):
                continue
            self._set_look(skin)
            # The image is drawn with rows downwards, which turns every winding round; a mirrored mesh turns it again.
            ctx.front_face = "ccw" if skin.flipped else "cw"
            vao.render()
        if seen:
            ctx.enable_only(ctx.DEPTH_TEST)
            ctx.front_face = "cw"
            self._solid_vao.render(vertices=seen)
        return self._resolve(samples, color, depth_id)

    def _target(self, samples: int) -> tuple:
        """Framebuffer, colour and depth-and-id textures with ``samples`` squared samples a pixel."""
        if samples not in self._targets:
            size = (self.width * samples, self.height * samples)
            color, depth_id = self.ctx.texture(size, 4, dtype="f2"), self.ctx.texture(size, 2, dtype="f4")
            frame = self.ctx.framebuffer([color, depth_id], self.ctx.depth_renderbuffer(size))
            self._targets[samples] = frame, color, depth_id
        return self._targets[samples]

    def _beyond(self, K: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Beyond which sides of the picture, and of the nearest that is drawn, points (N, 3) lie: bits (N,) uint8.

        A triangle whose corners share a bit is not in the picture; of a person behind a close-up most are not.
        """
        x, y, z = points.T
        u, v = K[0, 0] * x + (K[0, 2] + 1.0) * z, K[1, 1] * y + (K[1, 2] + 1.0) * z     # from a pixel outside
        sides = z < NEAR_M, u < 0, u > (self.width + 1) * z, v < 0, v > (self.height + 1) * z
        return np.bitwise_or.reduce([side * bit for side, bit in zip(sides, _BITS)])

    def _projection(self, K: np.ndarray, s: int) -> np.ndarray:
        w, h = self.width * s, self.height * s
        p = np.zeros((4, 4), np.float64)
        p[0, 0], p[0, 1], p[0, 2] = 2 * s * K[0, 0] / w, 2 * s * K[0, 1] / w, (2 * s * K[0, 2] + 1) / w - 1
        p[1, 1], p[1, 2] = 2 * s * K[1, 1] / h, (2 * s * K[1, 2] + 1) / h - 1
        p[2, 2], p[2, 3] = (FAR_M + NEAR_M) / (FAR_M - NEAR_M), -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)
        p[3, 2] = 1.0
        return p.astype(np.float32)

    def _upload(self, skin: Skin, slot: int) -> tuple:
        key = (skin.template, slot)
        if key not in self._meshes:
            mesh = self._templates[skin.template]
            buffer = self.ctx.buffer(reserve=len(mesh.uv) * 24, dynamic=True)
            static = self.ctx.buffer(np.column_stack([mesh.uv, mesh.part]).astype(np.float32).tobytes())
            index = self.ctx.buffer(mesh.faces.astype(np.int32).tobytes())
            vao = self.ctx.vertex_array(self._skin_program, [(buffer, "3f 3f", "in_pos", "in_normal"),
                                                             (static, "2f 1f", "in_uv", "in_part")], index,
                                        skip_errors=True)
            shadow_vao = self.ctx.vertex_array(self._depth_program, [(buffer, "3f 3x4", "in_pos")], index)
            self._meshes[key] = (vao, shadow_vao, buffer)
        entry = self._meshes[key]
        entry[2].write(np.hstack([skin.vertices, skin.normals]).astype(np.float32).tobytes())
        return entry

    def _upload_solids(self, solids: tuple, K: np.ndarray) -> tuple[int, int]:
        """Returns how many indices there are, for shadows, and how many of the first may be in the picture."""
        if not solids:
            return 0, 0
        blocks, indices, base = [], [], 0
        for solid in solids:
            n = len(solid.vertices)
            block = np.empty((n, 14), np.float32)
            block[:, 0:3], block[:, 3:6], block[:, 6:8] = solid.vertices, solid.normals, solid.uv
            block[:, 8:11] = solid.color
            block[:, 11:14] = solid.pattern, solid.gloss, SOLID_ID
            blocks.append(block)
            indices.append(np.asarray(solid.faces, np.int32) + base)
            base += n
        vertices, index = np.concatenate(blocks), np.concatenate(indices)
        beyond = self._beyond(K, vertices[:, :3])
        unseen = (beyond[index[:, 0]] & beyond[index[:, 1]] & beyond[index[:, 2]]) > 0
        away = np.einsum("vk,vk->v", vertices[:, :3], vertices[:, 3:6])[index[:, 0]] > 0
        near, far = index[~(away | unseen)], index[away & ~unseen]
        index = np.concatenate([near, far, index[unseen]])         # what faces the camera hides the rest: it goes first
        if vertices.nbytes > self._solid_buffer.size or index.nbytes > self._solid_index.size:
            raise ConfigError(f"a scene has {base} vertices of solids; at most {self._solid_buffer.size // 56} fit: "
                              "use coarser solids")
        self._solid_buffer.write(vertices.tobytes())
        self._solid_index.write(index.tobytes())
        return index.size, near.size + far.size

    def _set_lighting(self, view: View) -> None:
        light = view.lighting
        hands = min(-(-len(view.capsules) // CAPSULES_PER_HAND), MAX_HANDS)
        caps = np.zeros((MAX_HANDS * CAPSULES_PER_HAND, 7))
        caps[:len(view.capsules)] = view.capsules[:len(caps)]
        along = caps[:, 3:6] - caps[:, :3]
        a = np.hstack([caps[:, :3], caps[:, 6:] ** 2]).astype(np.float32)
        b = np.hstack([along, 1 / np.maximum((along ** 2).sum(1, keepdims=True), 1e-9)]).astype(np.float32)
        balls = np.zeros((MAX_HANDS, 4), np.float32)
        for hand in range(hands):
            group = view.capsules[hand * CAPSULES_PER_HAND:][:CAPSULES_PER_HAND]
            ends = np.concatenate([group[:, :3], group[:, 3:6]])
            middle = 0.5 * (ends.min(0) + ends.max(0))
            balls[hand] = *middle, np.linalg.norm(ends - middle, axis=1).max() + _OCCLUSION_REACH_M
        for program in (self._skin_program, self._solid_program):
            program["u_sh"].write(light.sh.astype(np.float32).tobytes())
            program["u_world"].write(light.R_env_camera.T.astype(np.float32).tobytes())
            program["u_light_dir"].write(light.directions.astype(np.float32).tobytes())
            program["u_light_rgb"].write(light.colors.astype(np.float32).tobytes())
            program["u_env_layer"] = float(2 * light.environment)
            program["u_env_gain"].write(np.asarray(light.reflection_gain, np.float32).tobytes())
            program["u_hands"] = hands
            program["u_hand"].write(balls.tobytes())
            program["u_cap_a"].write(a.tobytes())
            program["u_cap_b"].write(b.tobytes())

    def _draw_shadows(self, view: View, drawn: list, solids: int) -> None:
        clouds = [s.vertices for s in view.skins] + [s.vertices for s in view.solids]
        lit = bool(clouds) and bool(np.any(view.lighting.colors[0] > 0))
        points = np.concatenate(clouds) if lit else np.array([-np.ones(3), np.ones(3)])
        seen = points[self._beyond(view.K, points) == 0]
        matrix = _shadow_matrix(view.lighting.directions[0], points, seen if len(seen) else points)
        packed = matrix.T.astype(np.float32).tobytes()
        for program in (self._skin_program, self._solid_program, self._depth_program):
            program["u_shadow"].write(packed)
        self._shadow_fbo.use()
        self._shadow_fbo.clear(depth=1.0)
        if not lit:
            return
        self.ctx.enable_only(self.ctx.DEPTH_TEST | self.ctx.CULL_FACE)
        for skin, (_, shadow_vao, _) in zip(view.skins, drawn):
            # Of a closed mesh the side that looks away from the lamp is enough, and does not shade the lit one.
            self.ctx.front_face = "cw" if skin.flipped else "ccw"
            shadow_vao.render()
        if solids:
            self.ctx.enable_only(self.ctx.DEPTH_TEST)
            self._solid_shadow_vao.render(vertices=solids)

    def _set_look(self, skin: Skin) -> None:
        program, look = self._skin_program, skin.look
        textures, masks = self._atlases[skin.template]
        textures.use(3)
        masks.use(4)
        program["u_layer"] = float(look.layer % textures.layers)
        program["u_base_id"] = float(16 * (skin.hand + 1)) if skin.hand >= 0 else float(SOLID_ID)
        program["u_glove"], program["u_gloss"] = float(look.glove), float(look.gloss)
        program["u_bump"], program["u_detail"] = float(look.bump_m), float(look.detail)
        for name in ("back", "palm", "blood", "knuckle", "nail", "crease", "scatter"):
            program["u_" + name].write(np.asarray(getattr(look, name), np.float32).tobytes())

    def _resolve(self, samples: int, color, depth_id) -> Raster:
        """Filter the samples to pixels where they are, since reading them all back costs more."""
        self._resolved.use()
        self.ctx.enable_only(self.ctx.NOTHING)
        color.use(0)
        depth_id.use(1)
        self._resolve_program["u_samples"] = samples
        self._resolve_vao.render(vertices=3)
        shape = (self.height, self.width)
        rgba = np.frombuffer(self._color.read(), np.float32).reshape(*shape, 4)
        found = np.frombuffer(self._depth_id.read(), np.float32).reshape(*shape, 2)
        return Raster(color=np.ascontiguousarray(rgba[..., :3]), alpha=np.ascontiguousarray(rgba[..., 3]),
                      depth=np.ascontiguousarray(found[..., 0]), ids=found[..., 1].astype(np.uint8))


def open_context():
    """A headless OpenGL 3.3 context, of torchrun's ranks on a machine with several GPUs each on its own; unless
    GLCONTEXT_DEVICE_INDEX says which. Raises ConfigError, with the remedy, where there is none."""
    rank = os.environ.get("LOCAL_RANK", "0")
    mine = {"device_index": int(rank)} if rank.isdecimal() and int(rank) and DEVICE_INDEX not in os.environ else {}
    try:
        import moderngl
        if mine:
            with contextlib.suppress(Exception):                    # fewer devices than ranks: they share the first
                return moderngl.create_context(standalone=True, backend="egl", require=330, **mine)
        return moderngl.create_context(standalone=True, backend="egl", require=330)
    except Exception as error:
        raise ConfigError(f"no OpenGL 3.3 through EGL ({error}): install Mesa (apt install libegl1 libgl1-mesa-dri) or "
                          "the GPU driver's EGL, and the Python packages moderngl and glcontext") from error


def _texture_array(ctx, data: np.ndarray, repeat: bool, mipmaps: bool):
    layers, height, width, channels = data.shape
    dtype = "f2" if data.dtype == np.float16 else "f1"
    texture = ctx.texture_array((width, height, layers), channels, np.ascontiguousarray(data).tobytes(), dtype=dtype)
    texture.repeat_x = texture.repeat_y = repeat
    texture.filter = (ctx.LINEAR, ctx.LINEAR)
    if mipmaps:
        texture.build_mipmaps()
        texture.filter = (ctx.LINEAR_MIPMAP_NEAREST, ctx.LINEAR)
    return texture


def _shadow_matrix(direction: np.ndarray, casting: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Orthographic view along a light: as wide as what is seen, so that texels are small, as deep as all that casts.

    direction: (3,) towards the light. casting, seen: points (N, 3), (M, 3) metres. Returns (4, 4) to clip space.
    """
    z = -direction / np.linalg.norm(direction)
    x = np.cross(z, [0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0])
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    across, along = seen @ rotation[:2].T, casting @ z
    low, high = np.append(across.min(0), along.min()), np.append(across.max(0), along.max())
    middle, half = 0.5 * (low + high), 0.5 * (high - low) + 1e-3
    half[:2] = half[:2].max() + SHADOW_MARGIN_M
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation / half[:, None], -middle / half
    return matrix
